"""A library in a folder that this user cannot write to: its database is read from a copy."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import quote


def is_read_only(root: Path) -> bool:
    """Whether a folder exists that this user cannot write to, or that lies on a read-only disk."""
    return root.is_dir() and not os.access(root, os.W_OK)


def copy_database(file: Path) -> Path:
    """A copy of an SQLite database in a new temporary folder, with what its write-ahead log holds.

    SQLite itself opens a database with such a log only where it can write beside it. Raises OSError for no such file.
    """
    folder = Path(tempfile.mkdtemp(prefix="concept-studio-"))
    copy = folder / file.name
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.OperationalError:  # no shared memory file, so nobody else has it open
        copy.unlink(missing_ok=True)
        shutil.copy(file, copy)
        log = file.with_name(f"{file.name}-wal")
        if log.exists():
            shutil.copy(log, copy.with_name(log.name))
    return copy
