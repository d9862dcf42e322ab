"""PNG files under new names, and the sheet that a base's evaluation generates."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from concepts.errors import StudioError
from concepts.storage import NotWritableError, nearest_existing
from training.reporting.image_grid import grid as grid
from training.reporting.image_grid import labelled_grid as labelled_grid
from training.reporting.image_grid import png_bytes as png_bytes
from ui.services.error_messages import sentence


def save_new(folder: Path, stem: str, data: bytes) -> Path:
    """Writes a PNG file under a name that no file has yet, and returns its path."""
    for number in count(1):
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        with suppress(FileExistsError):
            with path.open("xb") as file:
                try:
                    file.write(data)
                    file.flush()
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
            return path
    raise AssertionError("there is always a free number")


class OutputFolder:
    """A folder for pictures; those that it has no room for are saved in a spare folder, so that none is lost."""

    def __init__(self, folder: Path, spare: Path):
        self._folder, self._spare = folder, spare
        self._error: OSError | None = None
        self._spared: list[Path] = []

    def save(self, stem: str, data: bytes) -> Path:
        """Writes a PNG file under a new name and returns its path. Raises OSError where the spare folder fails, too."""
        if self._error is None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                return save_new(self._folder, stem, data)
            except OSError as error:
                if error.errno in NotWritableError.CODES:
                    self._error = NotWritableError(error.errno, error.strerror, str(nearest_existing(self._folder)))
                else:
                    self._error = OSError(error.errno, error.strerror, str(self._folder))
        self._spare.mkdir(parents=True, exist_ok=True)
        self._spared.append(save_new(self._spare, stem, data))
        return self._spared[-1]

    def check(self) -> None:
        """Raises StudioError, which names the files, if any picture went to the spare folder."""
        if self._error is not None:
            files = ", ".join(map(str, self._spared))
            raise StudioError(f"{sentence(self._error)} These pictures are saved elsewhere: {files}.") from self._error


def evaluation_sheet(questions: Sequence[Any], verdicts: Sequence[Any], pictures: Sequence[Image.Image]) -> Image.Image:
    """Every generated question in rows by category, those that the judge did not see answered framed in red."""
    rows: dict[str, list[Image.Image]] = {}
    for question, verdict, picture in zip(questions, verdicts, pictures, strict=True):
        frame = "white" if question.answered(verdict) else "#d0021b"
        rows.setdefault(question.category, []).append(ImageOps.expand(picture, 4, frame))
    lines = [
        (category if start == 0 else "", members[start : start + 14])
        for category, members in rows.items()
        for start in range(0, len(members), 14)
    ]
    return labelled_grid(lines)
