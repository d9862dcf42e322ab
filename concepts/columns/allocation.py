"""Column allocation: a concept gets singular columns that no other concept uses while there are any, else the least
used.

The basis rows of orthogonal adaptation are allocated in the same way, in a space of their own.
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

Space = Literal["columns", "bottom_columns", "random_basis", "rows"]
"""What is allocated: the singular columns of a base, or the rows of the basis of orthogonal adaptation."""


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
        """A sentence that lists the shared columns; None where none are shared."""
        if not self.overlaps:
            return None
        others = " and others" if len(self.overlaps) >= SHOWN else ""
        shared = ", ".join(map(str, self.overlaps)) + others
        return f"It shares {self.space} {shared}: merged, their changes add up there."


def best_start(taken: Mapping[tuple[int, int], int], width: int, capacity: int) -> int:
    """The start of the lowest free block of `width` columns out of `capacity`.

    `taken` gives the [start, stop) of the blocks in use, and how often each is. When none is free it is the start of
    the block whose columns have the lowest total use, the lowest of those, so that concepts spread evenly. Raises
    LibraryError for a width that cannot fit.
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
        raise LibraryError(f"rank {width} is too high for this base. Choose a rank from 1 to {capacity}.")


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
        raise LibraryError(f"First column {start} is outside the range for rank {width}. Choose one from 0 to {last}.")
    advisory_lock(session, f"columns of {base}")
    held = _record_of(session, concept, base, space)
    if held is None:
        held = ColumnRecord(concept_id=concept.id, base=base, space=space, start=-1, width=0)
    if held.width != width or held.stop > capacity or start not in (None, held.start):
        if start is None:
            taken = uses_of(session, base, space)
            taken[held.start, held.stop] -= held.width > 0  # the concept's own block counts as free
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
                restore_block(session, now, base, before and (before.start, before.width), space)
        raise


def block_of(session: Session, concept: ConceptRecord, base: str, space: Space = "columns") -> ColumnBlock | None:
    """The block that a concept holds of a base, without its overlaps."""
    held = _record_of(session, concept, base, space)
    return None if held is None else column_block(held, {})


def restore_block(
    session: Session, concept: ConceptRecord, base: str, before: Sequence[int] | None, space: Space = "columns"
) -> None:
    """Restores the block that a concept held of a base before, (start, width); deletes it where that is None."""
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
