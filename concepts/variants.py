"""Variants: trainings of the same pictures, each a concept of its own that refers to the concept which has them."""

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from concepts.concept import Concept, concept_of
from concepts.concept_pages import with_details
from concepts.database import Database
from concepts.errors import LibraryError
from concepts.names import check_name, find, refuse_taken
from concepts.storage import StoragePath
from concepts.tables import ConceptRecord, new_id


class ConceptVariants:
    """The variants of one library's concepts; `Library.variants` has it."""

    def __init__(self, root: StoragePath, database: Database):
        self._root, self._database = root, database

    def add(self, source: str, name: str) -> Concept:
        """Adds a concept with the pictures, captions and masks of another, and with its class word; no file is copied.

        A variant of a variant is one of the same source. Raises LibraryError for an unknown source, and for a name that
        is taken or cannot be one.
        """
        check_name(name)
        with self._database.writing() as session:
            original = find(session, source, lock=True)
            refuse_taken(session, name)
            record = ConceptRecord(
                id=new_id(), name=name, key=name.lower(), owner=original.owner, class_word=original.class_word,
                source_id=original.picture_owner.id,
            )  # fmt: skip
            session.add(record)
        with self._database.reading() as session:
            return concept_of(find(session, name), self._root, {})

    def of(self, name: str) -> list[Concept]:
        """The concept with all others that are trained on its pictures, by name, with all that their results tell."""
        with self._database.reading() as session:
            owner = find(session, name).picture_owner
            same = or_(ConceptRecord.id == owner.id, ConceptRecord.source_id == owner.id)
            query = with_details().where(same, ConceptRecord.removed.is_(None)).order_by(ConceptRecord.key)
            return [concept_of(record, self._root, {}) for record in session.scalars(query)]


def refuse_with_variants(session: Session, concept: ConceptRecord) -> None:
    """Raises LibraryError for a concept whose pictures others need, also where those are removed but not for good."""
    names = list(session.scalars(select(ConceptRecord.name).where(ConceptRecord.source_id == concept.id)))
    if names:
        raise LibraryError(
            f'The concepts {", ".join(sorted(names))} use the pictures of "{concept.name}". Remove them with '
            "--for-good first."
        )
