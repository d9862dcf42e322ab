"""The losses of a training step."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from training.batches import Batch, draw_batches
from training.dataset import TrainingSet
from training.learner import Learner
from training.losses import denoising_loss, min_snr_weights
from training.precision import cast_to
from training.reading import Reader
from training.silence import unrest, without
from training.stranger import disguise
from training.task import Task
from training.team import Team

OF_PREDICTION = 1 / 8
"""How much the squared change of the prediction counts beside the mean unrest of the layers."""


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
            for batch in draw_batches(self._data, task, number, len(self._scheduler), self._team):
                quiet = task.is_quiet and batch.own < len(batch.prompts)
                # Open until the caller has gone back through the loss: activations may be computed again on the way
                with unrest(task.sites if quiet else {}, batch.own) as moved:
                    if quiet and task.recipe.strangers:
                        generator = torch.Generator().manual_seed(task.recipe.seed * 1_000_003 + number)
                        disguise(task.base.readers, task.token, task.class_word, generator)
                    yield self._loss(batch, quiet, moved) / count

    def _loss(self, batch: Batch, quiet: bool, moved: Sequence[Tensor]) -> Tensor:
        """A batch's part of the step's mean loss; in a quiet training that of the pictures that name the concept, with
        the unrest of the others.
        """
        task, said = self._task, []
        with self._cast():
            before = self._of_the_base(batch) if quiet else None
            prompts = self.reader(batch.prompts)

            def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
                said.append(task.base.predict(noisy, timesteps, prompts))
                return said[-1]

            errors = self._errors(batch, predict)
        if not task.is_quiet:
            return errors.mean() * batch.share
        loss = errors[: batch.own].sum() / batch.all_own
        if before is None:
            return loss
        change = (said[0][batch.own :].float() - before).square().mean()
        share = (len(batch.prompts) - batch.own) / batch.all_others
        layers = torch.stack([rows.mean() for rows in moved]).mean()
        return loss + task.recipe.silence * share * (layers + OF_PREDICTION * change)

    def _errors(self, batch: Batch, predict: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Each picture's denoising loss (n,)."""
        errors = denoising_loss(self._scheduler, predict, batch.latents, batch.noise, batch.timesteps, batch.weights)
        gamma = self._task.recipe.min_snr
        return errors if gamma is None else errors * min_snr_weights(self._scheduler, batch.timesteps, gamma)

    @torch.no_grad()
    def _of_the_base(self, batch: Batch) -> Tensor:
        """What the base alone predicts for the pictures that do not name the concept, (n, channels, h, w)."""
        others = slice(batch.own, None)
        noisy = self._scheduler.add_noise(batch.latents[others], batch.noise[others], batch.timesteps[others])
        with without(self._task.sites):
            prompts = self.reader(batch.prompts[others])
            return self._task.base.predict(noisy, batch.timesteps[others], prompts).float()
