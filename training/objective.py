"""What a training step descends: how well the concept is denoised, and how much else is moved."""

from typing import Any

import torch
from torch import Tensor

from training.batches import Batch
from training.losses import denoising_loss
from training.silence import unrest, without
from training.task import Task

OF_PREDICTION = 1 / 8
"""How much the squared change of the prediction counts beside the mean unrest of the layers."""


def objective(task: Task, scheduler: Any, batch: Batch) -> tuple[Tensor, Tensor | float]:
    """The mean denoising loss of a batch; in a quiet training, that of the concept's pictures, and the unrest of the
    others: how far the layers are moved for them, and what they predict together.
    """
    base, said = task.base, []

    def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
        said.append(_prediction(task, noisy, timesteps, batch.prompts))
        return said[-1]

    with base.autocast():
        if not task.is_quiet:
            return denoising_loss(scheduler, predict, batch.latents, batch.noise, batch.timesteps).mean(), 0.0
        before = _of_the_base(task, scheduler, batch)
        with unrest(task.sites, batch.own) as moved:
            losses = denoising_loss(scheduler, predict, batch.latents, batch.noise, batch.timesteps)
    change = (said[0][batch.own :].float() - before).square().mean()
    return losses[: batch.own].mean(), torch.stack(moved).mean() + OF_PREDICTION * change


@torch.no_grad()
def _of_the_base(task: Task, scheduler: Any, batch: Batch) -> Tensor:
    """What the base alone predicts for the rows that do not name the concept, (n, channels, h, w)."""
    others = slice(batch.own, None)
    noisy = scheduler.add_noise(batch.latents[others], batch.noise[others], batch.timesteps[others])
    with without(task.sites):
        return _prediction(task, noisy, batch.timesteps[others], batch.prompts[others]).float()


def _prediction(task: Task, noisy: Tensor, timesteps: Tensor, prompts: list[str]) -> Tensor:
    return task.base.predict(noisy, timesteps, task.base.encode(prompts))
