"""The library's files, in a folder or at an fsspec URL: written whole or not at all, and removed without complaint."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from fsspec.implementations.local import LocalFileSystem
from upath import UPath

from concepts.errors import LibraryError, UnavailableError

TEMPORARY = re.compile(r"\.[a-z0-9_]+\.tmp")
"""The names of files and folders that become another one when they are whole."""

StoragePath = Path | UPath
"""A file or folder: of this machine, or on a file system of fsspec."""


def storage_path(where: StoragePath | str) -> StoragePath:
    """The folder that a path means, or what lies at a URL such as s3://bucket/library.

    Raises LibraryError for a URL that nothing installed here reads, or that cannot be wrap_storage_errors.
    """
    if isinstance(where, UPath):
        return where
    if "://" not in str(where):
        return Path(where).expanduser().resolve()
    try:
        # What other machines write must be seen, so listings are not remembered
        place = UPath(str(where), use_listings_cache=False)
        return Path(place.path).resolve() if isinstance(place.fs, LocalFileSystem) else place
    except Exception as error:  # drivers are imported, and some log in, just here
        raise LibraryError(f"The library at {where} cannot be opened ({error}): check the URL.") from error


def local_folder(root: StoragePath) -> Path:
    """The folder of this machine for what a library can make again: its own, or one in the user's cache."""
    if isinstance(root, Path):
        return root
    return cache_folder() / "libraries" / hashlib.sha256(str(root).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """The studio's part of the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "concept-studio"


@contextmanager
def wrap_storage_errors(path: StoragePath) -> Iterator[None]:
    """Turns what a driver of fsspec raises, which may be anything, into OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if isinstance(path, Path):
            raise
        raise OSError(f"{path}: {error}") from error


def atomic_write(path: StoragePath, data: bytes) -> None:
    """Writes `data` to `path` so that a reader, or a crash, finds the file before or all of the new one.

    Raises OSError (disk full, no permission …); then `path` is as it was and nothing is left beside it.
    """
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        if isinstance(path, UPath):
            _upload(path, path.with_name(temporary.name).path, data)
        else:
            _write(path, path.with_name(temporary.name), data)
    except BaseException:
        remove(temporary)
        raise


def read_file(path: StoragePath) -> bytes:
    """What a file of the library holds. Raises UnavailableError when it cannot be read."""
    try:
        with wrap_storage_errors(path):
            return path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise UnavailableError(f"{path} could not be read ({reason}): see that it is there.") from error


def make_folder(path: StoragePath, exist_ok: bool = False) -> None:
    """Makes a folder, and those above it, that outlasts a power cut.

    Raises OSError, also when `path` exists and `exist_ok` is false; object stores, which have no folders, cannot tell.
    """
    if isinstance(path, UPath):
        with wrap_storage_errors(path):
            path.fs.makedirs(path.path, exist_ok=exist_ok)
        return
    path.mkdir(parents=True, exist_ok=exist_ok)
    _sync_folder(path.parent)


def entries(folder: StoragePath) -> list[StoragePath]:
    """What lies in a folder; nothing where there is none, or where another process has taken it away."""
    try:
        with wrap_storage_errors(folder):
            return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove(path: StoragePath) -> None:
    """Removes a file or folder that nothing refers to any more; one that will not go only takes up space."""
    if isinstance(path, UPath):
        with suppress(Exception):
            path.fs.rm(path.path, recursive=True)
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _write(path: Path, temporary: Path, data: bytes) -> None:
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _upload(path: UPath, temporary: str, data: bytes) -> None:
    """A rename where the file system has one; object stores copy on their side, and show a copy when it is whole."""
    with wrap_storage_errors(path):
        path.fs.pipe_file(temporary, data)
        path.fs.mv(temporary, path.path)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and its renames need no such help
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
