"""What a training tells while it goes on: TensorBoard files, and its previews as pictures."""

from contextlib import suppress
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from concepts.storage import remove
from training.engine.trainer import Preview, Progress
from training.jobs.previews import keep_preview


class TensorBoardLog:
    """Loss, learning rates, previews and their alignment by step, in a folder that `tensorboard --logdir` reads, and
    the previews beside that as `training.jobs.previews` has them.

    A training from its first step begins the folder anew; one that goes on takes up where it stopped. What cannot be
    written, on a full disk, is left out: it must not end a training.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def progress(self, progress: Progress) -> None:
        """Notes a step; while prior pictures are generated there is nothing to note."""
        if progress.loss is None:
            return
        with suppress(OSError):
            writer = self._open(progress.step)
            writer.add_scalar("loss", progress.loss, progress.step)
            for part, rate in progress.rates.items():
                writer.add_scalar(f"rate/{part}", rate, progress.step)

    def preview(self, preview: Preview) -> None:
        """Notes pictures, and their alignment if they were scored."""
        levels = np.stack([np.asarray(picture.convert("RGB")) for picture in preview.pictures])
        with suppress(OSError):
            writer = self._open(preview.step)
            writer.add_images("previews", levels, preview.step, dataformats="NHWC")
            if preview.alignment is not None:
                writer.add_scalar("image alignment", preview.alignment, preview.step)
            keep_preview(self._folder, preview.step, preview.pictures, preview.alignment)

    def close(self) -> None:
        """Writes what is still to be written."""
        if self._writer:
            with suppress(OSError):
                self._writer.close()

    def _open(self, step: int) -> SummaryWriter:
        if self._writer is None:
            if step == 1:
                remove(self._folder)
            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        return self._writer
