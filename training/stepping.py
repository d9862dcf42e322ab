"""The losses of a training step."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from studio.diffusion import Base
from studio.errors import StudioError
from training.batches import Batch, draw_batches
from training.dataset import TrainingSet
from training.learner import Learner
from training.losses import denoising_loss, min_snr_weights
from training.reading import Reader
from training.task import Task
from training.team import Team


class Stepper:
    """Draws a learner's batches and says how wrong the base is on them; `reader` reads their prompts."""

    def __init__(self, task: Task, data: TrainingSet, learner: Learner, team: Team):
        self._task, self._data, self._learner, self._team = task, data, learner, team
        self._scheduler: Any = DDPMScheduler.from_config(task.base.pipeline.scheduler.config)
        self._cast = cast_to(task.recipe.precision, task.base)
        adapts_text = any(site.part != "unet" for site in task.sites.values())
        self.reader = Reader(task.base, learner, adapts_text, task.recipe.low_memory)

    def losses(self) -> Iterator[Tensor]:
        """The next step's losses, each of some of its pictures, computed as they are asked for; their sum is the mean
        over all.
        """
        task, count = self._task, self._task.recipe.accumulation
        for part in range(count):
            number = self._learner.step * count + part
            for batch in draw_batches(
                self._data, task.token, task.class_word, task.recipe, number, len(self._scheduler), self._team
            ):
                loss = self._loss(batch)
                yield loss if (share := batch.share / count) == 1 else loss * share

    def _loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch."""
        unet = self._task.base.pipeline.unet
        with self._cast():
            context = self.reader(batch.prompts)

            def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
                return unet(noisy, timesteps, context, return_dict=False)[0]

            errors = denoising_loss(
                self._scheduler, predict, batch.latents, batch.noise, batch.timesteps, batch.weights
            )
            gamma = self._task.recipe.min_snr
            if gamma is not None:
                errors = errors * min_snr_weights(self._scheduler, batch.timesteps, gamma)
            return errors.mean()


def cast_to(precision: str, base: Base) -> Any:
    """A function that opens a context in which products have the recipe's precision; StudioError where they cannot."""
    if precision == "auto":
        return base.autocast
    if precision == "float32":
        return nullcontext
    if precision == "float16" and base.device.type == "cpu":
        raise StudioError("Choose another precision, such as auto or float32: float16 needs a GPU.")
    dtype = getattr(torch, precision)

    def cast() -> AbstractContextManager[Any]:
        return torch.autocast(base.device.type, dtype)

    return cast
