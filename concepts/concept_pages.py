"""Keyset pagination of concepts: each page starts after the last row of the previous one, found by an index."""

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session, selectinload

from concepts.columns.overlaps import overlaps
from concepts.concept import Concept, concept_of
from concepts.storage import StoragePath
from concepts.tables import ConceptRecord, ResultRecord


def by_age(after: Concept | None = None, newest: bool = False) -> Select[ConceptRecord]:
    """The concepts by age, oldest or newest first."""
    query = select(ConceptRecord).where(ConceptRecord.removed.is_(None))
    age = (ConceptRecord.created, ConceptRecord.id)
    if after is not None:
        last = tuple_(after.created, after.id)
        query = query.where(tuple_(*age) < last if newest else tuple_(*age) > last)
    return query.order_by(*(column.desc() if newest else column for column in age))


def by_name(prefix: str, after: Concept | None = None) -> Select[ConceptRecord]:
    """The concepts whose names start with `prefix`, in any case, by name."""
    first = prefix.lower()
    query = select(ConceptRecord).where(ConceptRecord.key >= first, ConceptRecord.key < first + "\x7f")
    return _after_name(query, after)


def containing(part: str, after: Concept | None = None) -> Select[ConceptRecord]:
    """The concepts whose names contain `part`, in any case, by name; no index helps, so all names are read."""
    return _after_name(select(ConceptRecord).where(ConceptRecord.key.contains(part.lower(), autoescape=True)), after)


def _after_name(query: Select[ConceptRecord], after: Concept | None) -> Select[ConceptRecord]:
    if after is not None:
        query = query.where(ConceptRecord.key > after.name.lower())
    return query.where(ConceptRecord.removed.is_(None)).order_by(ConceptRecord.key)


def with_details() -> Select[ConceptRecord]:
    """Concepts with the details of their results, in as few statements as without."""
    return select(ConceptRecord).options(selectinload(ConceptRecord.result).undefer(ResultRecord.details))


def concepts_of(session: Session, root: StoragePath, query: Select[ConceptRecord]) -> list[Concept]:
    """The concepts that the query finds, with their overlaps."""
    records = session.scalars(query).all()
    shared = overlaps(session, [block for record in records for block in record.columns])
    return [concept_of(record, root, shared, details=False) for record in records]
