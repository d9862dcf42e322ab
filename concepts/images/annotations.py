"""Captions and masks of the pictures in the library."""

import io

from PIL import Image
from sqlalchemy.orm import Session

from concepts.concept import mask_file, pictures_folder
from concepts.database import Database
from concepts.errors import LibraryError
from concepts.images.import_files import MAX_CAPTION, check_mask
from concepts.images.upload_checks import encode_png
from concepts.names import find
from concepts.storage import StoragePath, atomic_write, read_file, remove
from concepts.tables import ConceptRecord, PictureRecord


class Annotations:
    """The captions and masks of one library; `Library.annotations` has it. A training reads them when it begins.

    Those of a variant are its source's.
    """

    def __init__(self, root: StoragePath, database: Database):
        self._root, self._database = root, database

    def set_caption(self, name: str, picture: int, caption: str) -> None:
        """Sets the caption of one of a concept's pictures, counted from 0; an empty caption removes it.

        Raises LibraryError for a caption of more than 2000 bytes and for a picture that does not exist.
        """
        words = " ".join(caption.split())
        if len(words.encode()) > MAX_CAPTION:
            raise LibraryError(f"The caption has {len(words.encode())} bytes. Shorten it to {MAX_CAPTION} bytes.")
        with self._database.writing() as session:
            _, record = _picture(session, name, picture)
            record.caption = words or None

    def set_mask(self, name: str, picture: int, mask: Image.Image | None) -> None:
        """Sets a picture's loss mask: a grey picture of its size, white where the loss counts; None for no mask.

        Raises LibraryError for a mask of another size, for one without white, and for a picture that does not exist.
        """
        with self._database.writing() as session:
            concept, record = _picture(session, name, picture)
            folder = pictures_folder(self._root, concept)
            file = mask_file(folder, record)
            if mask is not None:
                with Image.open(io.BytesIO(read_file(folder / f"{record.id}.png"))) as whole:
                    check_mask(mask, whole.size)
                atomic_write(file, encode_png(mask.convert("L")))
            record.masked = mask is not None
        if mask is None:
            remove(file)


def _picture(session: Session, name: str, number: int) -> tuple[ConceptRecord, PictureRecord]:
    concept = find(session, name, lock=True).picture_owner
    if not 0 <= number < len(concept.pictures):
        raise LibraryError(
            f'"{concept.name}" has {len(concept.pictures)} pictures and no picture {number + 1}. Choose one of them.'
        )
    return concept, concept.pictures[number]
