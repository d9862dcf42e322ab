"""Imports a picture with the files beside it, its caption and its mask, and with what its folder's name says."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from concepts.concept import mask_file
from concepts.errors import LibraryError
from concepts.images.picture_files import captions_beside, existing, masks_beside, picture_files
from concepts.images.upload_checks import encode_png, read_alpha, read_picture, read_with_alpha
from concepts.storage import StoragePath, atomic_write
from concepts.tables import PictureRecord, new_id
from concepts.text_files import read_text

MAX_PICTURES = 100
"""The most pictures of one concept."""
MAX_CAPTION = 2000
"""The longest caption, in bytes."""


_REPEATED = re.compile(r"(\d{1,4})_(.*)")
"""kohya's names of folders: repeats, name and class word."""


@dataclass(frozen=True, eq=False)
class ImportedPicture:
    """A picture's file, decoded: upright, with the mask of what in it counts, white, and its caption, if it has any.

    `repeats` is how often it counts in training, relative to the concept's other pictures.
    """

    file: Path
    image: Image.Image
    mask: Image.Image | None = None
    caption: str | None = None
    repeats: int = 1


def pictures_to_import(pictures: Sequence[Path | str | ImportedPicture]) -> list[Path | ImportedPicture]:
    """The pictures that are given as files or folders, then those that are decoded already.

    Raises LibraryError for none, for too many, and as `picture_files` does.
    """
    decoded = [each for each in pictures if isinstance(each, ImportedPicture)]
    files = [*picture_files(each for each in pictures if not isinstance(each, ImportedPicture)), *decoded]
    if not 1 <= len(files) <= MAX_PICTURES:
        raise LibraryError(f"{len(files)} pictures were given. Give 1 to {MAX_PICTURES}; 3 to 10 are best.")
    return files


def import_picture(file: Path, name: str) -> ImportedPicture:
    """Decodes a picture, once, with what lies beside it.

    Raises LibraryError, naming `name`, for what cannot be read, for a mask of another size than the picture, for an
    empty mask, and for a picture that is wholly transparent.
    """
    image, alpha = read_with_alpha(file, name)
    mask = _drawn_mask(file)
    if mask is None and alpha is not None and alpha.getbbox() is None:
        raise LibraryError(f"{name} is transparent everywhere. Leave it out, or save it without transparency.")
    mask = mask or alpha
    if mask:
        check_mask(mask, image.size, f" of {file.name}")
    return ImportedPicture(file, image, mask, read_caption(file), repeats_of(file.parent.name))


def check_mask(mask: Image.Image, size: tuple[int, int], of: str = "") -> None:
    """Raises LibraryError for a mask of another size than its picture's, and for one without white."""
    if mask.size != size:
        raise LibraryError(
            f"The mask{of} has the size {mask.size}, and the picture {size}. Give a mask of the picture's size."
        )
    if mask.convert("L").getbbox() is None:
        raise LibraryError(f"The mask{of} is empty. Mark a part of the picture in it.")


def repeats_of(folder: str) -> int:
    """The repeats that a folder's name begins with, as in kohya's "10_rex dog"; 1 for any other name."""
    match = _REPEATED.match(folder)
    return max(1, int(match[1])) if match else 1


def class_word_of(folders: Iterable[str]) -> str | None:
    """The class word of folders named as kohya's, "10_rex dog": "dog"; None if they name none, or several."""
    found = {match[2].partition(" ")[2].strip() for folder in folders if (match := _REPEATED.match(folder))} - {""}
    return found.pop() if len(found) == 1 else None


def store_picture(folder: StoragePath, picture: Path | ImportedPicture, position: int) -> PictureRecord:
    """Stores a picture in a concept's folder, with its mask if it has one; its record, with its caption.

    Raises LibraryError as `import_picture` does.
    """
    given = picture if isinstance(picture, ImportedPicture) else import_picture(picture, str(picture))
    record = PictureRecord(
        id=new_id(), position=position, caption=given.caption, masked=given.mask is not None, repeats=given.repeats
    )
    atomic_write(folder / f"{record.id}.png", encode_png(given.image))
    if given.mask:
        atomic_write(mask_file(folder, record), encode_png(given.mask))
    return record


def read_caption(picture: Path) -> str | None:
    """The text in the .txt or .caption file of the picture's name; None if there is none or it is empty.

    Raises LibraryError for a file that is too long or not text.
    """
    file = next(filter(existing, captions_beside(picture)), None)
    if file is None:
        return None
    return " ".join(read_text(file, "The caption", MAX_CAPTION).split()) or None


def read_mask(picture: Path) -> Image.Image | None:
    """A picture's loss mask, white on black: from a mask file beside it, else from its transparency, else None."""
    return _drawn_mask(picture) or read_alpha(picture, str(picture))


def _drawn_mask(picture: Path) -> Image.Image | None:
    file = next(filter(existing, masks_beside(picture)), None)
    return None if file is None else read_picture(file, str(file)).convert("L")
