"""A fake remote file system of fsspec: no local paths, no renames, and failures on demand."""

from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from upath import registry
from upath.implementations.memory import MemoryPath


class StoreError(Exception):
    """What this driver raises: like those of real ones, no OSError."""


class RemoteFileSystem(MemoryFileSystem):
    """Files at remote://…; `failing` says which of its writes and copies, counted from now, fails half-way."""

    protocol = "remote"
    store: dict[str, Any] = {}  # noqa: RUF012 (fsspec's own way: all instances share it)
    pseudo_dirs = [""]  # noqa: RUF012
    failing: int | None = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("remote://"))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Writes a file, or half of it."""
        torn = self._fails()
        super().pipe_file(path, value[: len(value) // 2] if torn else value, mode, **kwargs)
        if torn:
            raise StoreError("503: slow down")

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copies a file, whole or not at all, as object stores do."""
        if self._fails():
            raise StoreError("503: slow down")
        super().cp_file(path1, path2, **kwargs)

    def _fails(self) -> bool:
        if RemoteFileSystem.failing is None:
            return False
        RemoteFileSystem.failing -= 1
        return RemoteFileSystem.failing < 0


class RemotePath(MemoryPath):
    """A path at remote://…"""

    def __str__(self) -> str:
        return f"remote:/{self.path}"


fsspec.register_implementation("remote", RemoteFileSystem)
registry.register_implementation("remote", RemotePath)
