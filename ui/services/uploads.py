"""Uploaded pictures, each decoded once."""

from pathlib import Path
from threading import Lock

from concepts.images.import_files import ImportedPicture, import_picture

MAX_PIXELS = 100_000_000
"""What is kept decoded; beyond it the oldest pictures are let go, and decoded again if they are still wanted."""


class Uploads:
    """Decoded pictures by their files, which never change: an upload lies in a folder of its own."""

    def __init__(self, max_pixels: int = MAX_PIXELS):
        self._max_pixels, self._lock = max_pixels, Lock()
        self._decoded: dict[Path, ImportedPicture] = {}

    def decode(self, file: Path, name: str) -> ImportedPicture:
        """The picture in a file. Raises LibraryError, naming `name`, for what cannot be read."""
        with self._lock:
            if file not in self._decoded:
                self._decoded[file] = import_picture(file, name)
                while len(self._decoded) > 1 and self._pixels() > self._max_pixels:
                    del self._decoded[next(iter(self._decoded))]
            return self._decoded[file]

    def forget(self, files: list[Path]) -> None:
        """Lets pictures go that are not needed any more."""
        with self._lock:
            for file in files:
                self._decoded.pop(file, None)

    def _pixels(self) -> int:
        return sum(each.image.width * each.image.height for each in self._decoded.values())
