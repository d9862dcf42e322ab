"""Files of the library: written whole or not at all, and removed without complaint."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

TEMPORARY = re.compile(r"\.[a-z0-9_]+\.tmp")
"""The names of files and folders that become another one when they are whole."""


def atomic_write(path: Path, data: bytes) -> None:
    """Writes `data` to `path` so that a reader, or a crash, finds the file before or all of the new one.

    Raises OSError (disk full, no permission …); then `path` is as it was and nothing is left beside it.
    """
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Makes a new folder that outlasts a power cut. Raises OSError, also when `path` exists."""
    path.mkdir()
    _sync_folder(path.parent)


def remove(path: Path) -> None:
    """Removes a file or folder that nothing refers to any more; one that will not go only takes up space."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and its renames need no such help
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
