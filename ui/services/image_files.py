"""PNG files under new names, and the sheet that a base's evaluation generates."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from training.reporting.image_grid import grid as grid
from training.reporting.image_grid import labelled_grid as labelled_grid
from training.reporting.image_grid import png_bytes as png_bytes


def save_new(folder: Path, stem: str, data: bytes) -> Path:
    """Writes a PNG file under a name that no file has yet, and returns its path."""
    for number in count(1):
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        with suppress(FileExistsError):
            with path.open("xb") as file:
                file.write(data)
            return path
    raise AssertionError("there is always a free number")


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
