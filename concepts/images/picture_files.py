"""The pictures in folders, and what else is there, with the reason why it is not taken."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from concepts.errors import LibraryError
from concepts.images.upload_checks import HEIF_SUFFIXES

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", *HEIF_SUFFIXES
})  # fmt: skip
CAPTION_SUFFIXES = (".txt", ".caption")
MASK_ENDINGS = ("-mask", "-masklabel")
"""Endings of the names of mask files; the second is OneTrainer's."""
_SHOWN = 10
"""Files that a note names."""
_BLANK = 100
"""Bytes of a file that may be blank."""


@dataclass(frozen=True)
class Listing:
    """The pictures that some paths mean, each once and in order, and what a folder holds besides, with the reasons."""

    pictures: list[Path]
    skipped: dict[Path, str]

    def note(self) -> str | None:
        """What is not taken, in a sentence; None if all is."""
        if not self.skipped:
            return None
        told = [f"{path.name} ({reason})" for path, reason in self.skipped.items()]
        if (hidden := len(told) - _SHOWN) <= 1:  # one more takes no more room than its number
            return f"Not taken: {', '.join(told)}."
        others = dict.fromkeys([*self.skipped.values()][_SHOWN:])
        return f"Not taken: {', '.join(told[:_SHOWN])}, and {hidden} more ({', '.join(others)})."


def picture_files(sources: Iterable[Path | str]) -> list[Path]:
    """The files that `sources` mean, as `list_pictures` finds them."""
    return list_pictures(sources).pictures


def list_pictures(sources: Iterable[Path | str]) -> Listing:
    """The files that `sources` mean; a folder stands for its own pictures, by name, without those of its folders.

    Raises LibraryError for a path that does not exist and for a folder without pictures.
    """
    listings = []
    try:
        for source in sources:
            path = Path(source).expanduser()
            listings.append(_of_folder(path) if path.is_dir() else Listing([path], {}))
        pictures = dict.fromkeys(file.resolve() for listing in listings for file in listing.pictures)
    except (OSError, RuntimeError) as error:  # no permission; no such user behind ~
        raise LibraryError(f"The pictures could not be listed ({error}). Check the paths.") from error
    return Listing([*pictures], {file: reason for listing in listings for file, reason in listing.skipped.items()})


def existing(file: Path) -> bool:
    """Whether there is such a file; not for a name that is too long for the disk."""
    try:
        return file.is_file()
    except OSError:
        return False


def captions_beside(picture: Path) -> Iterator[Path]:
    """The files that may hold a picture's caption: 1.txt, 1.caption or 1.jpg.txt, with endings in any case."""
    for stem in (picture.stem, picture.name):
        for suffix in CAPTION_SUFFIXES:
            yield from (picture.with_name(stem + each) for each in (suffix, suffix.upper()))


def masks_beside(picture: Path) -> Iterator[Path]:
    """The files that may hold a picture's mask: 1-mask.png or 1-masklabel.png, with any picture's ending."""
    for ending in MASK_ENDINGS:
        yield from (picture.with_name(f"{picture.stem}{ending}{suffix}") for suffix in sorted(SUFFIXES))


def _of_folder(folder: Path) -> Listing:
    entries = sorted(folder.iterdir())
    reasons = {entry: _reason(entry) for entry in entries}
    candidates = [entry for entry, reason in reasons.items() if reason is None]
    stems = {entry.stem for entry in candidates}
    masks = [entry for entry in candidates if _partner(entry.stem) in stems]
    pictures = [entry for entry in candidates if entry not in masks]
    beside = [[file for file in captions_beside(picture) if file in reasons] for picture in pictures]
    used = [files[0] for files in beside if files]
    spare = {file: f"{files[0].name} is the caption" for files in beside for file in files[1:]}
    empty = {file: "an empty caption" for file in used if _is_blank(file)}
    left = {entry: reason for entry, reason in reasons.items() if reason and entry not in {*masks, *used}}
    skipped = {**left, **spare, **empty}
    if not pictures:
        raise LibraryError(f"The folder {folder} has no pictures. {_advice(entries)}")
    return Listing(pictures, skipped)


def _is_blank(file: Path) -> bool:
    return file.stat().st_size <= _BLANK and not file.read_bytes().strip()


def _partner(stem: str) -> str | None:
    """The stem of the picture that a mask of this stem would belong to."""
    return next((stem.removesuffix(ending) for ending in MASK_ENDINGS if stem.endswith(ending)), None)


def _reason(entry: Path) -> str | None:
    """Why an entry of a folder is no picture; None for one that looks like one."""
    if entry.is_dir():
        return "a folder"
    if not entry.exists():
        return "a link to a missing file"
    if entry.name.startswith("."):
        return "a hidden file"
    if entry.suffix.lower() not in SUFFIXES:
        is_caption = entry.suffix.lower() in CAPTION_SUFFIXES
        return "a caption without a picture of its name" if is_caption else "no picture by its ending"
    return None if entry.is_file() else "no ordinary file"


def _advice(entries: Iterable[Path]) -> str:
    folders = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    if not folders:
        return "Choose a folder with JPEG, PNG or WEBP files."
    return f"It has folders: give one of them, such as {folders[0]}."
