"""How many concepts hold each block of columns: counts kept in a table, so that a query need not read every block.

Every change of a ColumnRecord through a session is counted as it is written, in the same transaction.
"""

from collections import Counter
from typing import Any

from sqlalchemy import Connection, event, inspect, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapper, Session

from concepts.tables import ColumnRecord, UseRecord, new_id

Block = tuple[str, str, int, int]  # base, space, start, width


def uses_of(session: Session, base: str, space: str) -> Counter[tuple[int, int]]:
    """How many concepts hold each block (start, stop) of a base."""
    held = (UseRecord.base == base) & (UseRecord.space == space) & (UseRecord.holders > 0)
    rows = session.execute(select(UseRecord.start, UseRecord.width, UseRecord.holders).where(held))
    return Counter({(start, start + width): holders for start, width, holders in rows})


def _count(connection: Connection, block: Block, by: int) -> None:
    names = ("base", "space", "start", "width")
    place = dict(zip(names, block, strict=True))
    if by < 0:
        same = [getattr(UseRecord, name) == value for name, value in place.items()]
        connection.execute(update(UseRecord).where(*same).values(holders=UseRecord.holders + by))
        return
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    counted = dialect.insert(UseRecord).values(id=new_id(), holders=by, **place)
    connection.execute(counted.on_conflict_do_update(index_elements=names, set_={"holders": UseRecord.holders + by}))


def _now(record: ColumnRecord) -> Block:
    return record.base, record.space, record.start, record.width


def _before(record: ColumnRecord) -> Block:
    """What the row held until this flush."""
    state = inspect(record)
    old = [(state.attrs[name].history.deleted or [getattr(record, name)])[0] for name in ("start", "width")]
    return record.base, record.space, old[0], old[1]


@event.listens_for(ColumnRecord, "after_insert")
def _inserted(_: Mapper[Any], connection: Connection, record: ColumnRecord) -> None:
    _count(connection, _now(record), 1)


@event.listens_for(ColumnRecord, "after_update")
def _updated(_: Mapper[Any], connection: Connection, record: ColumnRecord) -> None:
    if _before(record) != _now(record):
        _count(connection, _before(record), -1)
        _count(connection, _now(record), 1)


@event.listens_for(ColumnRecord, "after_delete")
def _deleted(_: Mapper[Any], connection: Connection, record: ColumnRecord) -> None:
    _count(connection, _before(record), -1)
