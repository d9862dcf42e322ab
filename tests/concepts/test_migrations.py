"""Libraries of every schema version, with rows in every table, are opened: the rows are there, and the new columns."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, MetaData, create_engine, make_url

from concepts import Library
from concepts.database import open_database, sqlite_url
from concepts.tables import Record

Rows = dict[str, list[dict[str, Any]]]

CONFIG = Config()
CONFIG.set_main_option("script_location", "concepts:migrations")
CONFIG.set_main_option("path_separator", "os")
VERSIONS = sorted(revision.revision for revision in ScriptDirectory.from_config(CONFIG).walk_revisions())

DAY = datetime(2026, 3, 1, 12, 30, 15, 250000)
REX, MILO, TOM = "1" * 32, "2" * 32, "3" * 32


def row_id(number: int) -> str:
    return f"{number:032x}"


def column(number: int, concept: str, base: str, space: str, start: int) -> dict[str, Any]:
    return {
        "id": row_id(number), "concept_id": concept, "base": base, "space": space, "start": start, "width": 8,
    }  # fmt: skip


def use(number: int, base: str, space: str, start: int, holders: int) -> dict[str, Any]:
    """The id is the lowest of the rows that are counted, as migration 0005 chooses it."""
    return {"id": row_id(number), "base": base, "space": space, "start": start, "width": 8, "holders": holders}


def result(number: int, concept: str, adapter: str) -> dict[str, Any]:
    return {
        "id": row_id(number), "concept_id": concept, "base": "abc", "adapter": adapter, "rank": 8, "parameters": 4096,
        "scores": {"image_alignment": 0.75, "backbone": "toybox-clip"}, "details": {"losses": [0.5, 0.25], "seed": 3},
        "created": DAY,
    }  # fmt: skip


ROWS: Rows = {
    "concepts": [
        {"id": REX, "name": "Rex", "key": "rex", "class_word": "dog", "created": DAY, "removed": None, "owner": "ann"},
        {"id": MILO, "name": "milo", "key": "milo", "class_word": "chat noir", "created": DAY, "removed": None,
         "owner": ""},
        {"id": TOM, "name": "tom", "key": f"removed:{TOM}"[:40], "class_word": "cat", "created": DAY, "removed": DAY,
         "owner": "bob"},
    ],
    "images": [
        {"id": row_id(10), "concept_id": REX, "position": 0, "caption": "a <rex>, naïve", "masked": True},
        {"id": row_id(11), "concept_id": REX, "position": 1, "caption": None, "masked": False},
        {"id": row_id(12), "concept_id": MILO, "position": 0, "caption": "", "masked": False},
    ],
    "columns": [
        column(20, REX, "abc", "columns", 0), column(21, MILO, "abc", "rows", 8),
        column(22, TOM, "abc", "columns", 0), column(23, REX, "other", "columns", 16),
    ],
    "results": [result(30, REX, "spectral_additive"), result(31, MILO, "orthogonal")],
    "jobs": [
        {"id": row_id(40), "concept_id": MILO, "owner": "ann", "batch": "night", "base": "toybox", "fingerprint": "abc",
         "recipe": {"adapter": "lora", "steps": 200}, "columns": {"space": "columns", "start": 8, "before": None},
         "state": "running", "nice": -3, "attempts": 1, "max_attempts": 3, "worker": "w1", "lease_until": DAY,
         "step": 7, "steps": 200, "seconds_per_step": 0.5, "loss": 0.125, "losses": [0.5, 0.125], "error": None,
         "created": DAY, "started": DAY, "ended": None, "result_id": None},
        {"id": row_id(41), "concept_id": REX, "owner": "", "batch": None, "base": "toybox", "fingerprint": "abc",
         "recipe": {}, "columns": None, "state": "failed", "nice": 0, "attempts": 3, "max_attempts": 3, "worker": None,
         "lease_until": None, "step": 0, "steps": 200, "seconds_per_step": None, "loss": None, "losses": [],
         "error": "Out of memory.", "created": DAY, "started": DAY, "ended": DAY, "result_id": row_id(30)},
    ],
    "column_uses": [
        use(20, "abc", "columns", 0, 2), use(21, "abc", "rows", 8, 1), use(23, "other", "columns", 16, 1),
    ],
    "leftovers": [{"id": row_id(50), "place": f"pictures/{row_id(51)}", "since": DAY}],
}  # fmt: skip


@pytest.fixture
def url(database: str | None, tmp_path: Path) -> URL:
    """Where the library's tables are: in SQLite's file at `tmp_path`, or in an empty database of PostgreSQL."""
    if database is None:
        return sqlite_url(tmp_path / "studio.sqlite")
    return make_url(database).set(drivername="postgresql+psycopg")


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


def migrate(engine: Engine, version: str) -> None:
    with engine.begin() as connection:
        CONFIG.attributes["connection"] = connection
        command.upgrade(CONFIG, version)


def tables_of(engine: Engine) -> MetaData:
    """The tables as the database has them, whatever the program's own say."""
    metadata = MetaData()
    metadata.reflect(engine)
    metadata.remove(metadata.tables["alembic_version"])
    return metadata


def fill(engine: Engine) -> None:
    """Rows of every table that this version has, with the columns that it has."""
    tables = tables_of(engine)
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            connection.execute(
                table.insert(),
                [{c.name: row[c.name] for c in table.columns if c.name in row} for row in ROWS[table.name]],
            )


def stored(engine: Engine) -> Rows:
    with engine.connect() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(table.select().order_by(table.c.id)).mappings()]
            for table in tables_of(engine).sorted_tables
        }


def migrated(version: str) -> Rows:
    """What must be there in the end of a library that had ROWS when it was of this version."""
    rows = {name: [dict(row) for row in own] for name, own in ROWS.items()}
    if version < "0008":
        _set(rows["jobs"], seconds_per_step=None)
    if version < "0007":
        _set(rows["images"], repeats=1)
    if version < "0005":
        rows["leftovers"] = []
        _set(rows["concepts"], owner="")
    if version < "0004":
        _set(rows["images"], caption=None, masked=False)
    if version < "0003":
        rows["jobs"] = []
    if version < "0002":
        _set(rows["concepts"], removed=None)
    return rows


def _set(rows: list[dict[str, Any]], **values: Any) -> None:
    for row in rows:
        row.update(values)


def known(row: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """The row without the columns that a later version added."""
    return {name: row[name] for name in expected}


def test_each_version_has_its_number():
    assert [f"{number:04}" for number in range(1, len(VERSIONS) + 1)] == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_library_of_this_version_keeps_its_rows(version: str, url: URL, engine: Engine):
    migrate(engine, version)
    fill(engine)
    before = stored(engine)
    assert all(before.values())
    open_database(url).dispose()
    after, expected = stored(engine), migrated(version)
    assert after.keys() >= expected.keys()
    for name, rows in expected.items():
        assert [known(row, was) for row, was in zip(after[name], rows, strict=True)] == rows, name
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Record.metadata) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_library_of_this_version_is_used(version: str, database: str | None, engine: Engine, tmp_path: Path):
    migrate(engine, version)
    fill(engine)
    library = Library(tmp_path, database)
    rex = library.concept("REX")
    assert (rex.name, rex.class_word, [block.start for block in rex.columns]) == ("Rex", "dog", [0, 16])
    assert rex.result
    assert rex.result.details["losses"] == [0.5, 0.25]
    assert rex.result.created.isoformat() == "2026-03-01T12:30:15.250000+00:00"
    assert library.concept("milo").columns[0].space == "rows"
    assert [job.concept for job in library.jobs.page(10)] == ([] if version < "0003" else ["Rex", "milo"])
    assert library.allocate_columns("milo", "abc", 4, 24).start == 8  # the first columns that nobody holds
