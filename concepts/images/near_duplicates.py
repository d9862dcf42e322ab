"""Checks of pictures before anything is stored: errors, near duplicates, and pictures that are cropped unlike the
others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from concepts.errors import LibraryError
from concepts.images.import_files import ImportedPicture, import_picture
from concepts.images.upload_checks import read_picture
from concepts.storage import StoragePath

SQUARE_ENOUGH = 1.15
"""Up to this ratio of its sides a picture counts as square."""
_SIDE = 16
_ALIKE = 6.0
"""Mean difference of two thumbnails in grey levels below which the pictures show the same."""


@dataclass(frozen=True)
class Inspected:
    """One picture: decoded, or the error that says why it cannot be used; and notes about it."""

    file: Path
    imported: ImportedPicture | None
    problem: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def picture(self) -> Image.Image | None:
        """The picture, upright."""
        return self.imported and self.imported.image


def inspect_pictures(
    files: Sequence[Path],
    stored: Sequence[StoragePath] = (),
    decode: Callable[[Path, str], ImportedPicture] = import_picture,
) -> list[Inspected]:
    """Every file with its problem or its notes, in order; `stored` are pictures that the concept has already.

    A note marks a near duplicate of an earlier picture, and a wide picture among tall ones or the reverse.
    """
    inspected = [_read(file, decode) for file in files]
    seen = [("a picture that the concept has", _thumbnail(read_picture(path, path.name))) for path in stored]
    usual = _most_common([_orientation(item.picture) for item in inspected if item.picture])
    for item in inspected:
        if item.picture is None:
            continue
        small = _thumbnail(item.picture)
        if twin := next((name for name, other in seen if _difference(small, other) < _ALIKE), None):
            item.notes.append(f"It is nearly the same as {twin}: another view would add more.")
        seen.append((item.file.name, small))
        if usual and (own := _orientation(item.picture)) not in (usual, "square"):
            item.notes.append(
                f"It is {own} and most others are {usual}: training crops each to its centre square, so check "
                "what is cropped."
            )
    return inspected


def _read(file: Path, decode: Callable[[Path, str], ImportedPicture]) -> Inspected:
    try:
        return Inspected(file, decode(file, file.name))
    except LibraryError as error:
        return Inspected(file, None, str(error))


def _thumbnail(picture: Image.Image) -> bytes:
    return picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX).tobytes()


def _difference(one: bytes, other: bytes) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def _orientation(picture: Image.Image) -> str:
    width, height = picture.size
    if max(width, height) <= SQUARE_ENOUGH * min(width, height):
        return "square"
    return "wide" if width > height else "tall"


def _most_common(orientations: Sequence[str]) -> str | None:
    """What most of the pictures that are not square are, if there are several kinds."""
    wide, tall = orientations.count("wide"), orientations.count("tall")
    if not (wide and tall):
        return None
    return "wide" if wide >= tall else "tall"
