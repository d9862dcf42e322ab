"""Logs a running training: TensorBoard event files, and its validation images as pictures."""

from contextlib import suppress
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from concepts.storage import remove
from training.engine.trainer import Progress
from training.engine.validation import Preview
from training.jobs.previews import store_preview


class TensorBoardLog:
    """Writes loss, learning rates, validation images and their alignment by step to a TensorBoard log folder, and the
    validation images beside it, by `training.jobs.previews`.

    A training from its first step clears the folder; a resumed one appends. Write errors, as on a full disk, are
    ignored: they must not end a training.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def progress(self, progress: Progress) -> None:
        """Logs a step; the generation of class images is not logged."""
        if progress.loss is None:
            return
        with suppress(OSError):
            writer = self._open(progress.step)
            writer.add_scalar("loss", progress.loss, progress.step)
            for part, rate in progress.rates.items():
                writer.add_scalar(f"rate/{part}", rate, progress.step)

    def preview(self, preview: Preview) -> None:
        """Logs validation images, and their alignment if they were scored."""
        levels = np.stack([np.asarray(picture.convert("RGB")) for picture in preview.pictures])
        with suppress(OSError):
            writer = self._open(preview.step)
            writer.add_images("previews", levels, preview.step, dataformats="NHWC")
            if preview.alignment is not None:
                writer.add_scalar("image alignment", preview.alignment, preview.step)
            store_preview(self._folder, preview.step, preview.pictures, preview.alignment)

    def close(self) -> None:
        """Flushes and closes the log."""
        if self._writer:
            with suppress(OSError):
                self._writer.close()

    def _open(self, step: int) -> SummaryWriter:
        if self._writer is None:
            if step == 1:
                remove(self._folder)
            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        return self._writer
