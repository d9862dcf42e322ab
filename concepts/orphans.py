"""Orphaned folders, which no row names: being added, being deleted, or left by a process that died.

A folder is noted in the database before anything is written to it, and the note is deleted in the transaction that
adds its row; the transaction that deletes the row notes it again. So cleaning up need not list all folders.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import CursorResult, Delete, delete, select
from sqlalchemy.orm import Session

from concepts.database import Database, now, translate_database_errors
from concepts.errors import LibraryError
from concepts.storage import TEMPORARY, StoragePath, entries, make_folder, remove, wrap_storage_errors
from concepts.tables import LeftoverRecord

AGE_SECONDS = 24 * 3600
"""Younger folders may belong to a process that is still running."""
CACHES = (".", "columns", "priors")
"""The folders in which temporary files may be left."""
_AT_ONCE = 500


@contextmanager
def adding(database: Database, folder: StoragePath) -> Iterator[StoragePath]:
    """Makes a new folder for files whose row is added later, in a transaction that also calls `keep`.

    Without that, it is removed.
    """
    with database.writing() as session:
        note(session, [folder])
    try:
        with translate_database_errors(database.root):
            make_folder(folder)
            yield folder
    except BaseException:
        with database.reading() as session:  # an interrupt may come just after the commit
            left = session.scalar(select(LeftoverRecord.id).where(LeftoverRecord.place == _named(folder)))
        if left:
            _remove_now(folder, database)
        raise


def note(session: Session, folders: Iterable[StoragePath]) -> None:
    """Notes that no row names these folders of the library."""
    session.add_all([LeftoverRecord(place=_named(folder), since=now(session)) for folder in folders])


def keep(session: Session, folder: StoragePath) -> None:
    """Deletes the note, since a row names this folder now. Raises LibraryError if the folder was deleted meanwhile."""
    struck: CursorResult[Any] = session.execute(_noted(folder))  # pyright: ignore[reportAssignmentType]
    if struck.rowcount != 1:
        raise LibraryError(
            "Writing these files took more than a day, and they were deleted as leftovers meanwhile. Try again."
        )


def sweep(root: StoragePath, database: Database) -> None:
    """Removes folders that were noted more than a day ago, unless the library can only be read."""
    if database.read_only:
        return
    with database.reading() as session:
        old = LeftoverRecord.since < now(session) - timedelta(seconds=AGE_SECONDS)
        places = session.scalars(select(LeftoverRecord.place).where(old).order_by(LeftoverRecord.since).limit(_AT_ONCE))
        found = list(places)
    for place in found:
        remove(root / place)
    if found:
        with database.writing() as session:
            session.execute(delete(LeftoverRecord).where(LeftoverRecord.place.in_(found)))


def sweep_temporary(folder: Path) -> None:
    """Removes temporary files that nothing has touched for a day from the caches in this folder of the machine."""
    for name in CACHES:
        for path in entries(folder / name):
            if isinstance(path, Path) and TEMPORARY.fullmatch(path.name) and _age(path) > AGE_SECONDS:
                remove(path)


def _remove_now(folder: StoragePath, database: Database) -> None:
    """Removes a folder at once; where that fails, it stays noted."""
    remove(folder)
    with suppress(LibraryError, OSError), wrap_storage_errors(folder):
        if not folder.exists():
            with database.writing() as session:
                session.execute(_noted(folder))


def _noted(folder: StoragePath) -> Delete:
    return delete(LeftoverRecord).where(LeftoverRecord.place == _named(folder))


def _named(folder: StoragePath) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _age(path: Path) -> float:
    """Seconds since the last change; 0 where another process has removed it."""
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime
    return 0.0
