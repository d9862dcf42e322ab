"""The column ledger: a concept gets singular columns of its own while there are any, else the least used."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from concepts.errors import LibraryError
from concepts.records import ColumnRecord, ConceptRecord

Sharers = Mapping[str, list[str]]  # id of a block's record -> the names of the other concepts on its columns


@dataclass(frozen=True)
class ColumnBlock:
    """The singular columns [start, start + width) of the base with this fingerprint, held by one concept."""

    base: str
    start: int
    width: int
    shared_with: tuple[str, ...] = ()  # names of the other concepts that hold some of these columns


def best_start(taken: Iterable[tuple[int, int]], width: int, capacity: int) -> int:
    """The start of the lowest free block of `width` columns out of `capacity`.

    `taken` gives the [start, stop) of the blocks in use. When none is free it is the start of the block whose
    columns are used least in all, the lowest of those: so a crowd spreads evenly. Raises LibraryError for a
    width that cannot fit.
    """
    if not 1 <= width <= capacity:
        raise LibraryError(f"A rank of {width} does not fit this base: choose a rank from 1 to {capacity}.")
    edges = [0] * (capacity + 1)
    for start, stop in taken:
        edges[min(start, capacity)] += 1
        edges[min(stop, capacity)] -= 1
    uses = accumulate(edges[:-1])  # of each column
    before = list(accumulate(uses, initial=0))  # of all the columns before each
    return min(range(capacity - width + 1), key=lambda start: before[start + width] - before[start])


def allocate(session: Session, concept: ConceptRecord, base: str, width: int, capacity: int) -> ColumnBlock:
    """What `Library.allocate_columns` promises, in a transaction that nobody else writes beside."""
    of_base = session.scalars(select(ColumnRecord).where(ColumnRecord.base == base)).all()
    start = best_start([(b.start, b.stop) for b in of_base if b.concept_id != concept.id], width, capacity)
    held = next((block for block in of_base if block.concept_id == concept.id), None)
    if held is None:
        held = ColumnRecord(concept_id=concept.id, base=base, start=start, width=width)
        session.add(held)
    elif held.width != width or held.stop > capacity:
        held.start, held.width = start, width
    session.flush()
    return column_block(held, sharers(session, concept))


def block_of(session: Session, concept: ConceptRecord, base: str) -> ColumnBlock | None:
    """What a concept holds of a base, without whom it shares it with."""
    held = _record_of(session, concept, base)
    return None if held is None else column_block(held, {})


def give_back(session: Session, concept: ConceptRecord, base: str, before: ColumnBlock | None) -> None:
    """Makes what a concept holds of a base what it was before."""
    held = _record_of(session, concept, base)
    if held is None:
        return
    if before is None:
        session.delete(held)
    else:
        held.start, held.width = before.start, before.width


def _record_of(session: Session, concept: ConceptRecord, base: str) -> ColumnRecord | None:
    mine = (ColumnRecord.base == base) & (ColumnRecord.concept_id == concept.id)
    return session.scalar(select(ColumnRecord).where(mine))


def column_block(record: ColumnRecord, sharers: Sharers) -> ColumnBlock:
    """The public form of a block's record."""
    return ColumnBlock(record.base, record.start, record.width, tuple(sharers.get(record.id, ())))


def sharers(session: Session, concept: ConceptRecord | None = None) -> Sharers:
    """Who else holds columns of each block, of one concept or of all; only shared blocks are listed."""
    mine, other = aliased(ColumnRecord), aliased(ColumnRecord)
    overlap = (
        (mine.base == other.base)
        & (mine.concept_id != other.concept_id)
        & (mine.start < other.start + other.width)
        & (other.start < mine.start + mine.width)
    )
    query = select(mine.id, ConceptRecord.name).join(other, overlap)
    query = query.join(ConceptRecord, ConceptRecord.id == other.concept_id).order_by(ConceptRecord.key)
    if concept is not None:
        query = query.where(mine.concept_id == concept.id)
    names: dict[str, list[str]] = defaultdict(list)
    for block, name in session.execute(query):
        names[block].append(name)
    return names
