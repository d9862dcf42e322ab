"""The library's database, SQLite or PostgreSQL: transactions, and the migrations to the newest schema."""

import errno
import shutil
import sqlite3
import weakref
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import URL, Connection, Engine, column, create_engine, event, func, inspect, make_url, select, table
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.orm import Session, sessionmaker

from concepts.environment import DATABASE_VARIABLE
from concepts.errors import LibraryError, UnavailableError
from concepts.read_only import copy_database, is_read_only
from concepts.storage import StoragePath

BUSY_SECONDS = 60.0
_MIGRATIONS = Path(__file__).parent / "migrations" / "versions"

# Alembic keeps the running migration in module globals
_one_migration_per_process = Lock()


class Database:
    """The database of the library at `root`: the file studio.sqlite there, or the one at `url`.

    Threads may share it. Every failure is a LibraryError. Where this user cannot write to the folder, a copy is read,
    and nothing is written.
    """

    def __init__(self, root: StoragePath, url: str | None = None):
        self.root, self.url = root, url
        self.read_only = url is None and isinstance(root, Path) and is_read_only(root)
        with translate_database_errors(root):
            location = _located(root, url)
            if self.read_only:
                copy = copy_database(Path(str(location.database)))
                weakref.finalize(self, shutil.rmtree, copy.parent, ignore_errors=True)
                location = sqlite_url(copy)
            engine = open_database(location)
        self._reading = sessionmaker(engine)
        self._writing = sessionmaker(engine.execution_options(begin="IMMEDIATE"), expire_on_commit=False)
        # SQLite's own lock is not fair: a thread can starve while others write in a tight loop
        self._write_lock = Lock() if engine.dialect.name == "sqlite" else nullcontext()
        weakref.finalize(self, engine.dispose)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads."""
        with translate_database_errors(self.root), self._reading() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is committed in the end, or leaves all as it was.

        Raises UnavailableError where the library can only be read.
        """
        if self.read_only:
            raise UnavailableError(
                f"The library at {self.root} can only be read by this user. Change its permissions, or copy it to a "
                "folder that can be written to."
            )
        with translate_database_errors(self.root), self._write_lock, self._writing.begin() as session:
            yield session


def open_database(url: URL) -> Engine:
    """The database at `url`, brought to the newest schema, also by several at once; SQLite's file is made when missing.

    Writers pass `execution_options(begin="IMMEDIATE")`, which in SQLite waits for its turn before it reads anything, so
    that what a transaction read still holds when it writes. Raises LibraryError for a database made by a
    newer version, and DatabaseError for a file that is no database.
    """
    lite = url.get_backend_name() == "sqlite"
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS} if lite else {}, pool_pre_ping=not lite)
    if lite:
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
    try:
        with _one_migration_per_process, _exclusively(Path(str(url.database))) if lite else nullcontext():
            _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def sqlite_url(path: Path) -> URL:
    """The URL of an SQLite file."""
    return URL.create("sqlite", database=str(path))


def advisory_lock(session: Session, what: str) -> None:
    """Waits until no other transaction holds the lock of this name, and holds it until the transaction ends.

    Only for PostgreSQL: in SQLite only one transaction writes at a time.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(zlib.crc32(what.encode()))))


def now(session: Session) -> datetime:
    """The time of the database's clock, which all processes that share the database use."""
    if session.get_bind().dialect.name == "postgresql":
        return session.scalars(select(func.clock_timestamp())).one().astimezone(UTC)
    return datetime.now(UTC)


@contextmanager
def translate_database_errors(root: StoragePath) -> Iterator[None]:
    """Turns errors of a disk, an object store or a database into UnavailableError."""
    try:
        yield
    except DatabaseError as error:
        raise _unusable(root, error.orig) from error
    except (sqlite3.DatabaseError, OSError) as error:
        raise _unusable(root, error) from error


def _unusable(root: StoragePath, reason: BaseException | None) -> UnavailableError:
    if isinstance(reason, OSError) and reason.errno in _NO_FOLDER:
        return UnavailableError(
            f"The library at {root} cannot be opened, since {_NO_FOLDER[reason.errno]}. Give another place with "
            "--library, or set STUDIO_LIBRARY."
        )
    return UnavailableError(
        f"The library at {root} cannot be used ({reason}). Check that the folder is a library's and can "
        "be written to, that the disk has free space, and that no other program locks the database."
    )


_NO_FOLDER = {
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.EROFS: "its disk is read-only",
    errno.ENOTDIR: "a file is in the place of a folder",
    errno.EEXIST: "a file is in its place",
    errno.ENOENT: "its folder cannot be made",
}
"""Why there can be no library in a folder."""


def _located(root: StoragePath, url: str | None) -> URL:
    """The database's URL, with the driver that reads it."""
    if url is None:
        if not isinstance(root, Path):
            raise LibraryError(
                f"The library at {root} is not a local folder and needs a PostgreSQL database. Set --database "
                f"or {DATABASE_VARIABLE}."
            )
        return sqlite_url(root / "studio.sqlite")
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise LibraryError(
            "The database is not a valid URL. Give it as postgresql://USER:PASSWORD@HOST/NAME."
        ) from error
    if parsed.get_backend_name() != "postgresql":
        raise LibraryError(
            f"{parsed.drivername} is not supported as a database. Give a postgresql:// URL, or none for SQLite."
        )
    try:
        import psycopg  # noqa: F401 (an extra: only those who use PostgreSQL install it)
    except ImportError as error:
        raise LibraryError("The driver for PostgreSQL is not installed. Run uv sync --extra postgresql.") from error
    return parsed.set(drivername="postgresql+psycopg")


def _configure(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # sqlite3's own transactions would begin too late; _begin opens them
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    kind = connection.get_execution_options().get("begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")


@contextmanager
def _exclusively(path: Path) -> Iterator[None]:
    """One process at a time, by the lock of an empty SQLite file: it works on every system, and a crash releases it."""
    with closing(sqlite3.connect(path.with_suffix(".lock"), timeout=BUSY_SECONDS, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        yield


def _migrate(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        _use_write_ahead_log(engine)
    known = migrations()
    with Session(engine.execution_options(begin="IMMEDIATE")) as session, session.begin():
        advisory_lock(session, "migration")
        connection = session.connection()
        current = _migrated(connection)
        if not current <= {*known}:
            raise _too_new(engine.url)
        if current != {known[-1]}:
            _upgrade(connection)


def migrations() -> list[str]:
    """The numbers of all migrations, the newest last, as their files are named; Alembic takes long to import."""
    return sorted(file.name[:4] for file in _MIGRATIONS.glob("[0-9]*.py"))


def _migrated(connection: Connection) -> set[str]:
    """The number of the newest migration that the database has had, as Alembic notes it; none for a new database."""
    if not inspect(connection).has_table("alembic_version"):
        return set()
    return {*connection.scalars(select(table("alembic_version", column("version_num")).c.version_num))}


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "concepts:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _use_write_ahead_log(engine: Engine) -> None:
    """Lets readers go on while one writes; the file remembers it. Not possible inside a transaction."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _too_new(url: URL) -> LibraryError:
    place = Path(str(url.database)).parent if url.get_backend_name() == "sqlite" else url.render_as_string()
    return LibraryError(
        f"The library at {place} was made by a newer version of Concept Studio. Update Concept Studio to open it."
    )
