"""Stores the validation images of a running training as files, for other processes."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from concepts.storage import atomic_write
from training.reporting.image_grid import grid, png_bytes

_NAME = re.compile(r"preview-(\d+)\.png")
_ALIGNMENT = "image alignment"


@dataclass(frozen=True)
class StoredPreview:
    """The validation images after a step, as a grid in a PNG file, and their image alignment if they were scored."""

    step: int
    file: Path
    alignment: float | None


def store_preview(folder: Path, step: int, pictures: Sequence[Image.Image], alignment: float | None) -> None:
    """Stores the pictures of a step in the training's folder. Raises OSError for a disk that is full."""
    text = {} if alignment is None else {_ALIGNMENT: str(alignment)}
    atomic_write(folder / f"preview-{step:06}.png", png_bytes(grid(pictures), text))


def stored_previews(folder: Path) -> list[StoredPreview]:
    """The stored previews of a training, by step; none where there is no such folder."""
    found = []
    for file in folder.glob("preview-*.png"):
        if match := _NAME.fullmatch(file.name):
            with suppress(OSError):  # another training of the same concept has started and removed it
                found.append(StoredPreview(int(match[1]), file, _alignment(file)))
    return sorted(found, key=lambda preview: preview.step)


def _alignment(file: Path) -> float | None:
    with Image.open(file, formats=["PNG"]) as picture:
        text = picture.info.get(_ALIGNMENT)
    return None if text is None else float(text)
