"""Opening the library's SQLite file: pragmas, transactions, and the migrations to the newest schema."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from concepts.errors import LibraryError

BUSY_SECONDS = 60.0

# Alembic keeps the running migration in module globals
_one_migration_per_process = Lock()


def open_database(path: Path) -> Engine:
    """The database at `path`, made when missing and brought to the newest schema, also by several at once.

    Writers pass `execution_options(begin="IMMEDIATE")`, which waits for its turn before it reads anything, so
    that what a transaction read still holds when it writes. Raises LibraryError for a database made by a
    newer version, and DatabaseError for a file that is none.
    """
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        with _one_migration_per_process, _exclusively(path.with_suffix(".lock")):
            _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turns what a disk or a database refuses into a LibraryError."""
    try:
        yield
    except DatabaseError as error:
        raise _unusable(root, error.orig) from error
    except (sqlite3.DatabaseError, OSError) as error:
        raise _unusable(root, error) from error


def _unusable(root: Path, reason: BaseException | None) -> LibraryError:
    return LibraryError(
        f"The library at {root} cannot be used ({reason}): check that it is a library's folder, that you may "
        "write there, that the disk has room, and that no other program keeps it busy."
    )


def _configure(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # sqlite3's own transactions would begin too late; _begin opens them
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    kind = connection.get_execution_options().get("begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")


@contextmanager
def _exclusively(path: Path) -> Iterator[None]:
    """One process at a time, by the lock of an empty SQLite file: every system has it, a crash frees it."""
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        yield


def _migrate(engine: Engine) -> None:
    _use_write_ahead_log(engine)
    config = Config()
    config.set_main_option("script_location", "concepts:migrations")
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    with engine.execution_options(begin="IMMEDIATE").begin() as connection:
        current = set(MigrationContext.configure(connection).get_current_heads())
        _refuse_newer(current, script, Path(str(engine.url.database)))
        if current != set(script.get_heads()):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _use_write_ahead_log(engine: Engine) -> None:
    """Lets readers go on while one writes; the file remembers it. Not possible inside a transaction."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _refuse_newer(current: set[str], script: ScriptDirectory, path: Path) -> None:
    if current - {revision.revision for revision in script.walk_revisions()}:
        raise LibraryError(
            f"The library at {path.parent} was made by a newer version of Concept Studio: "
            "update Concept Studio to open it."
        )
