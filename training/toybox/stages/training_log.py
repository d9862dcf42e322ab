"""The training log of a stage: a CSV file of metrics, and sample sheets."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

COLUMNS = (
    "stage",
    "step",
    "samples",
    "cpu_seconds",
    "loss",
    "learning_rate",
    "validation_loss",
    "validation_items",
    "psnr_samples",
    "psnr_unseen",
    "right",
)
"""The columns of `log.csv`; the last five are a stage's own metrics, empty where it has none."""
FIRST_SHEET = 8192
"""The number of samples before the first sheet; further ones follow at each doubling."""
LARGEST = 200_000
"""Maximum size of a sheet in bytes."""


@dataclass(frozen=True)
class TrainingLog:
    """The log folder of a stage, and its metrics.

    `batch` is the samples per step, `rate` returns the learning rate, `measure` the metrics by column, and `sheet` a
    sample sheet. Lines are at least `seconds` of CPU time apart.
    """

    folder: Path
    batch: int
    rate: Callable[[int], float]
    measure: Callable[[], Mapping[str, float]]
    sheet: Callable[[], Image.Image] | None = None
    seconds: float = 300

    def write_line(self, stage: str, step: int, seconds: float, loss: float) -> None:
        """Adds a line to `log.csv`: the metrics after `step` steps and `seconds` of CPU time."""
        values: dict[str, object] = {"stage": stage, "step": step, "samples": step * self.batch}
        values |= {"cpu_seconds": round(seconds), "loss": f"{loss:.4f}", "learning_rate": f"{self.rate(step):.2e}"}
        values |= {name: f"{value:.4f}" for name, value in self.measure().items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(values)

    def write_sheet(self, stage: str, step: int) -> None:
        """Writes a sheet if the step has doubled the number of samples."""
        samples = step * self.batch
        if self.sheet is None or samples < FIRST_SHEET:
            return
        doubled = FIRST_SHEET << ((samples // FIRST_SHEET).bit_length() - 1)
        if samples - self.batch < doubled:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_small(self.sheet(), self.folder / f"{stage}-{doubled:08d}.png")


def save_small(sheet: Image.Image, path: Path) -> None:
    """Saves a PNG of fewer than `LARGEST` bytes: with fewer colours, and smaller if needed."""
    sheet = sheet.quantize(256, dither=Image.Dither.NONE)
    sheet.save(path, optimize=True)
    while path.stat().st_size >= LARGEST:
        sheet = sheet.convert("RGB").resize((sheet.width * 3 // 4, sheet.height * 3 // 4), Image.Resampling.LANCZOS)
        sheet = sheet.quantize(256, dither=Image.Dither.NONE)
        sheet.save(path, optimize=True)


def tiled(pictures: np.ndarray, columns: int) -> Image.Image:
    """Pictures (n, height, width, 3) uint8 in rows of `columns`; n is a multiple of `columns`."""
    rows = pictures.reshape(-1, columns, *pictures.shape[1:]).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(rows.reshape(-1, columns * pictures.shape[2], 3))
