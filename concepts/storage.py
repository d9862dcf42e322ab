"""The library's files, in a folder or at an fsspec URL: written atomically, removed without raising."""

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from fsspec.implementations.local import LocalFileSystem
from upath import UPath

from concepts.errors import LibraryError, UnavailableError
from concepts.read_only import is_read_only

TEMPORARY = re.compile(r"\.[a-z0-9_]+\.tmp")
"""Names of temporary files and folders, renamed once they are complete."""

StoragePath = Path | UPath
"""A file or folder: of this machine, or on a file system of fsspec."""


def storage_path(where: StoragePath | str) -> StoragePath:
    """The folder of a path, or of a URL such as s3://bucket/library.

    Raises LibraryError for a URL that no installed driver reads, or that cannot be reached.
    """
    if isinstance(where, UPath):
        return where
    if "://" not in str(where):
        return expanded(where).resolve()
    try:
        # Other machines write there too, so listings are not cached
        place = UPath(str(where), use_listings_cache=False)
        return Path(place.path).resolve() if isinstance(place.fs, LocalFileSystem) else place
    except Exception as error:  # drivers are imported, and some log in, just here
        raise LibraryError(f"The library at {where} cannot be opened ({error}). Check the URL.") from error


def local_folder(root: StoragePath) -> Path:
    """The folder of this machine for a library's caches: its own, or one in the user's cache where it cannot be."""
    if isinstance(root, Path) and not is_read_only(root):
        return root
    return cache_folder() / "libraries" / hashlib.sha256(str(root).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """The studio's part of the user's cache folder."""
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "concept-studio"


def expanded(path: Path | str) -> Path:
    """The path with the user's home folder for ~. Raises LibraryError where it is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise LibraryError(f"The home folder in {path} is not known. Set HOME, or give a whole path.") from error


@contextmanager
def wrap_storage_errors(path: StoragePath) -> Iterator[None]:
    """Turns the errors of an fsspec driver, which may be of any class, into OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if isinstance(path, Path):
            raise
        raise OSError(f"{path}: {error}") from error


def atomic_write(path: StoragePath, data: bytes) -> None:
    """Writes `data` to `path` atomically: a reader, also after a crash, finds the old file or all of the new one.

    Raises OSError (disk full, no permission …); then `path` is unchanged and no temporary file is left.
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
    """The bytes of a file of the library. Raises UnavailableError when it cannot be read."""
    try:
        with wrap_storage_errors(path):
            return path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise UnavailableError(f"{path} could not be read ({reason}). Check that the file exists.") from error


def make_folder(path: StoragePath, exist_ok: bool = False) -> None:
    """Makes a folder and its parents, and syncs the parent to disk.

    Raises OSError, also when `path` exists and `exist_ok` is false; object stores have no folders and do not raise.
    """
    if isinstance(path, UPath):
        with wrap_storage_errors(path):
            path.fs.makedirs(path.path, exist_ok=exist_ok)
        return
    path.mkdir(parents=True, exist_ok=exist_ok)
    _sync_folder(path.parent)


def nearest_existing(folder: Path) -> Path:
    """The folder of this machine itself, or the nearest one above it that exists."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return existing


def check_writable(folder: Path) -> None:
    """Tries to write below a folder of this machine, or where it will be made, and leaves nothing there.

    Raises OSError (no permission, disk full, a file in its place), and NotWritableError where the folder, or the
    nearest one above it that exists, takes no files of this user.
    """
    existing = nearest_existing(folder)
    try:
        with tempfile.TemporaryFile(dir=existing) as tried:
            tried.write(bytes(4096))
            tried.flush()
    except OSError as error:
        if error.errno in NotWritableError.CODES:
            raise NotWritableError(error.errno, error.strerror, str(existing)) from error
        raise OSError(error.errno, error.strerror, str(folder)) from error


class NotWritableError(OSError):
    """A folder, `filename`, takes no files of this user."""

    CODES = (errno.EACCES, errno.EPERM, errno.EROFS)


def entries(folder: StoragePath) -> list[StoragePath]:
    """The contents of a folder; empty where there is none, or where another process has removed it."""
    try:
        with wrap_storage_errors(folder):
            return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove(path: StoragePath) -> None:
    """Removes a file or folder that nothing refers to; a failure is ignored, since the file only takes up space."""
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
    """Uploads and renames; object stores copy on the server, and list the copy when it is complete."""
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
