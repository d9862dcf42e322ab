"""The column ledger: a concept gets singular columns of its own while there are any, else the least used.

Orthogonal adaptation's basis rows are kept in the same way, as a space of their own beside the columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from concepts.columns.counts import uses_of
from concepts.columns.overlaps import SHOWN, Overlap, Overlaps, overlaps
from concepts.database import Database, advisory_lock
from concepts.errors import LibraryError
from concepts.names import find
from concepts.tables import ColumnRecord, ConceptRecord

Space = Literal["columns", "rows"]
"""What is handed out: the singular columns of a base, or the rows of the basis of orthogonal adaptation."""


@dataclass(frozen=True)
class ColumnBlock:
    """The singular columns (or basis rows) [start, start + width) of the base with this fingerprint, held by one
    concept.
    """

    base: str
    start: int
    width: int
    shared_with: tuple[str, ...] = ()  # names of the other concepts that hold some of these columns
    space: Space = "columns"
    overlaps: tuple[Overlap, ...] = field(default=(), compare=False)  # what is shared with each of them

    def note(self) -> str | None:
        """A sentence that tells what is shared; None where nothing is."""
        if not self.overlaps:
            return None
        others = " and others" if len(self.overlaps) >= SHOWN else ""
        shared = ", ".join(map(str, self.overlaps)) + others
        return f"It shares {self.space} {shared}: merged, their changes add up there."


def best_start(taken: Mapping[tuple[int, int], int], width: int, capacity: int) -> int:
    """The start of the lowest free block of `width` columns out of `capacity`.

    `taken` gives the [start, stop) of the blocks in use, and how often each is. When none is free it is the start of
    the block whose columns are used least in all, the lowest of those: so a crowd spreads evenly. Raises LibraryError
    for a width that cannot fit.
    """
    check_width(width, capacity)
    free = 0  # the first column that no block up to here uses
    for start, stop in sorted(block for block, uses in taken.items() if uses):
        if start - free >= width:
            break
        free = max(free, stop)
    return free if free + width <= capacity else _least_used(taken, width, capacity)


def check_width(width: int, capacity: int) -> None:
    """Raises LibraryError for a block that no base of this capacity can hold."""
    if not 1 <= width <= capacity:
        raise LibraryError(f"A rank of {width} does not fit this base: choose a rank from 1 to {capacity}.")


def _least_used(taken: Mapping[tuple[int, int], int], width: int, capacity: int) -> int:
    edges = [0] * (capacity + 1)
    for (start, stop), uses in taken.items():
        edges[min(start, capacity)] += uses
        edges[min(stop, capacity)] -= uses
    uses = accumulate(edges[:-1])  # of each column
    before = list(accumulate(uses, initial=0))  # of all the columns before each
    return min(range(capacity - width + 1), key=lambda start: before[start + width] - before[start])


def allocate(
    session: Session,
    concept: ConceptRecord,
    base: str,
    width: int,
    capacity: int,
    start: int | None = None,
    space: Space = "columns",
) -> ColumnBlock:
    """What `Library.allocate_columns` promises, in a transaction that may write."""
    check_width(width, capacity)
    if start is not None and not 0 <= start <= capacity - width:
        last = capacity - width
        raise LibraryError(f"Choose a first column from 0 to {last} for rank {width}: {start} is outside that range.")
    advisory_lock(session, f"columns of {base}")
    held = _record_of(session, concept, base, space)
    if held is None:
        held = ColumnRecord(concept_id=concept.id, base=base, space=space, start=-1, width=0)
    if held.width != width or held.stop > capacity or start not in (None, held.start):
        if start is None:
            taken = uses_of(session, base, space)
            taken[held.start, held.stop] -= held.width > 0  # its own block is free to it
            start = best_start(taken, width, capacity)
        held.start, held.width = start, width
        session.add(held)
    session.flush()
    return column_block(held, overlaps(session, [held]))


@contextmanager
def held_for_result(
    database: Database, name: str, base: str, width: int, capacity: int, start: int | None, space: Space
) -> Iterator[ColumnBlock]:
    """What `Library.columns_for_result` promises."""
    with database.writing() as session:
        record = find(session, name)
        identifier, result, before = record.id, record.result, block_of(session, record, base, space)
        block = allocate(session, record, base, width, capacity, start, space)
    try:
        yield block
    except BaseException:
        with suppress(LibraryError), database.writing() as session:
            now = session.get(ConceptRecord, identifier)
            if now and (now.result and now.result.id) == (result and result.id):
                give_back(session, now, base, before and (before.start, before.width), space)
        raise


def block_of(session: Session, concept: ConceptRecord, base: str, space: Space = "columns") -> ColumnBlock | None:
    """What a concept holds of a base, without whom it shares it with."""
    held = _record_of(session, concept, base, space)
    return None if held is None else column_block(held, {})


def give_back(
    session: Session, concept: ConceptRecord, base: str, before: Sequence[int] | None, space: Space = "columns"
) -> None:
    """Makes what a concept holds of a base what it was before, (start, width), or nothing."""
    held = _record_of(session, concept, base, space)
    if held is None:
        return
    if before is None:
        session.delete(held)
    else:
        held.start, held.width = before


def _record_of(session: Session, concept: ConceptRecord, base: str, space: Space) -> ColumnRecord | None:
    of_base = (ColumnRecord.base == base) & (ColumnRecord.space == space)
    return session.scalar(select(ColumnRecord).where(of_base, ColumnRecord.concept_id == concept.id))


def column_block(record: ColumnRecord, found: Overlaps) -> ColumnBlock:
    """The public form of a block's record."""
    shared = tuple(found.get(record.id, ()))
    names = tuple(overlap.name for overlap in shared)
    return ColumnBlock(record.base, record.start, record.width, names, record.space, shared)
