"""Imports a picture with the files beside it: its caption, and its mask."""

from pathlib import Path

from PIL import Image

from concepts.concept import mask_file
from concepts.errors import LibraryError
from concepts.images.io import MASK_ENDINGS, SUFFIXES, encode_png, read_alpha, read_picture
from concepts.storage import StoragePath, atomic_write
from concepts.tables import PictureRecord, new_id

MAX_CAPTION = 2000
"""The longest caption, in bytes."""


def store_picture(folder: StoragePath, file: Path, position: int) -> PictureRecord:
    """Stores a picture, and its mask if it has one, in a concept's folder; returns its record, with its caption.

    Raises LibraryError for a file that cannot be read, and for a mask of another size than the picture.
    """
    picture, mask = read_picture(file, str(file)), read_mask(file)
    if mask and mask.size != picture.size:
        raise LibraryError(f"Give {file.name} a mask of its own size: it is {picture.size}, the mask {mask.size}.")
    record = PictureRecord(id=new_id(), position=position, caption=read_caption(file), masked=mask is not None)
    atomic_write(folder / f"{record.id}.png", encode_png(picture))
    if mask:
        atomic_write(mask_file(folder, record), encode_png(mask))
    return record


def read_caption(picture: Path) -> str | None:
    """The text in the .txt file of the picture's name; None if there is none or it is empty.

    Raises LibraryError for a file that is too long or not text.
    """
    file = picture.with_suffix(".txt")
    if not file.is_file():
        return None
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_CAPTION + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LibraryError(f"The caption {file} could not be read ({error}): save it as plain text.") from error
    if len(data) > MAX_CAPTION:
        raise LibraryError(f"The caption {file} is too long: keep it under {MAX_CAPTION} bytes.")
    return " ".join(text.split()) or None


def read_mask(picture: Path) -> Image.Image | None:
    """A picture's loss mask, white on black: from a mask file beside it, else from its transparency, else None."""
    for ending in MASK_ENDINGS:
        for suffix in sorted(SUFFIXES):
            file = picture.with_name(f"{picture.stem}{ending}{suffix}")
            if file.is_file():
                return read_picture(file, str(file)).convert("L")
    return read_alpha(picture, str(picture))
