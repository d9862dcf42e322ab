"""Which concepts share a concept's columns, or basis rows, found without reading every allocated block."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import text
from sqlalchemy.orm import Session

from concepts.columns.counts import uses_of
from concepts.tables import ColumnRecord

SHOWN = 20
"""Maximum number of concepts that are listed as sharing a block."""
_PARTS = 100  # below the maximum number of parts of a compound statement in SQLite
# As text: SQLAlchemy takes longer to build a union of forty parts than a database takes to run it
_HOLDERS = """
SELECT * FROM (
    SELECT {start:d}, {stop:d}, concepts.id, concepts.key, concepts.name
    FROM columns JOIN concepts ON concepts.id = columns.concept_id
    WHERE columns.base = :base AND columns.space = :space AND columns.start = {start:d}
    AND columns.width = {stop:d} - {start:d} AND concepts.removed IS NULL LIMIT {limit:d}
) AS holders
"""


@dataclass(frozen=True)
class Overlap:
    """The columns [start, stop) that another concept, of this name, holds as well."""

    name: str
    start: int
    stop: int

    def __str__(self) -> str:
        last = self.stop - 1
        return f"{self.start} with {self.name}" if last == self.start else f"{self.start} to {last} with {self.name}"


Overlaps = Mapping[str, list[Overlap]]  # id of a block's record -> what other concepts hold of it
_Place = tuple[str, str, int, int]  # base, space, start, stop
_Holder = tuple[int, int, str, str, str]  # start, stop; the concept's id, key and name


def overlaps(session: Session, blocks: Sequence[ColumnRecord]) -> Overlaps:
    """The other concepts that hold columns of each of these blocks, at most SHOWN each; only shared blocks are listed,
    and no removed concepts.
    """
    uses = {place: uses_of(session, *place) for place in {(block.base, block.space) for block in blocks}}
    near = {block.id: _near(block, uses[block.base, block.space]) for block in blocks}
    num_holders = {block.id: sum(uses[place[:2]][place[2:]] for place in near[block.id]) for block in blocks}
    shared = [block for block in blocks if num_holders[block.id] > 1]
    holders = _holders(session, sorted({place for block in shared for place in near[block.id]}))
    found = {block.id: _overlaps(block, [h for place in near[block.id] for h in holders[place]]) for block in shared}
    return {block: others for block, others in found.items() if others}


def _near(block: ColumnRecord, uses: Mapping[tuple[int, int], int]) -> list[_Place]:
    """The blocks in use that have columns of this one, itself among them."""
    found = sorted((start, stop) for start, stop in uses if start < block.stop and block.start < stop)
    return [(block.base, block.space, start, stop) for start, stop in found]


def _holders(session: Session, places: Sequence[_Place]) -> dict[_Place, list[_Holder]]:
    """The concepts that hold each of these blocks, without removed ones: at most SHOWN + 1."""
    found: dict[_Place, list[_Holder]] = {place: [] for place in places}
    for (base, space), group in groupby(places, key=lambda place: place[:2]):
        for statement in _statements([place[2:] for place in group]):
            for start, stop, *concept in session.execute(text(statement), {"base": base, "space": space}):
                found[base, space, start, stop].append((start, stop, *concept))
    return found


def _statements(blocks: Sequence[tuple[int, int]]) -> Iterator[str]:
    limit = SHOWN + 1  # one of them may be the block's own concept
    for first in range(0, len(blocks), _PARTS):
        parts = (_HOLDERS.format(start=start, stop=stop, limit=limit) for start, stop in blocks[first : first + _PARTS])
        yield "UNION ALL".join(parts)


def _overlaps(block: ColumnRecord, holders: Sequence[_Holder]) -> list[Overlap]:
    others = sorted((key, name, start, stop) for start, stop, of, key, name in holders if of != block.concept_id)
    return [Overlap(name, max(start, block.start), min(stop, block.stop)) for _, name, start, stop in others[:SHOWN]]
