"""The losses of a training step."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from studio.models.base_model import Base
from studio.models.prompt_encoding import PromptEmbeds
from training.data.captions import caption_of, templates_of
from training.data.dataset import TrainingSet
from training.data.random_token import randomize_random_token
from training.engine.batch_sampler import Batch, draw_batches
from training.engine.denoising_loss import RobustLoss, denoising_loss, min_snr_weights
from training.engine.distributed import ProcessGroup
from training.engine.precision import cast_to
from training.engine.preservation_loss import adapters_disabled, preservation_loss, relative_output_change
from training.engine.prompt_cache import PromptCache
from training.engine.train_state import TrainState
from training.engine.training_task import Task

VALIDATION_TIMESTEPS = 8
"""The timesteps at which the loss on each validation picture is measured, evenly spaced."""


class LossComputer:
    """Samples the batches of a training state and computes their losses; `prompt_cache` encodes their prompts."""

    def __init__(self, task: Task, data: TrainingSet, state: TrainState, process_group: ProcessGroup):
        self._task, self._data, self._state, self._process_group = task, data, state, process_group
        self._scheduler: Any = DDPMScheduler.from_config(task.base.pipeline.scheduler.config)
        self._cast = cast_to(task.recipe.mixed_precision, task.base)
        adapts_text = any(site.part != "unet" for site in task.sites.values())
        recipe = task.recipe
        self.prompt_cache = PromptCache(task.base, state, adapts_text, recipe.low_memory, recipe.prompt_syntax)

    @torch.no_grad()
    def validation_loss(self) -> float | None:
        """The mean denoising loss on the pictures that are not trained on, at fixed timesteps and with fixed noise.

        None where there are no such pictures.
        """
        samples, task, device = self._data.validation, self._task, self._task.base.device
        if not samples:
            return None
        generator, losses = torch.Generator().manual_seed(0), []
        timesteps = torch.linspace(0, len(self._scheduler) - 1, VALIDATION_TIMESTEPS + 2)[1:-1].long().to(device)
        for sample in samples:
            template = templates_of(task.recipe, task.class_word)[0]
            text = caption_of(sample, template, task.token, task.class_word, task.recipe, generator)
            latents = sample.latents.expand(len(timesteps), -1, -1, -1)
            noise = torch.randn(latents.shape, generator=generator).to(device)
            with self._cast():
                prompts = self.prompt_cache([text] * len(timesteps))
                predict = partial(_predict, task.base, prompts)
                losses.append(denoising_loss(self._scheduler, predict, latents, noise, timesteps).mean().item())
        return fmean(losses)

    def losses(self) -> Iterator[Tensor]:
        """The next step's losses, one per batch of one shape, computed lazily; their sum is the step's mean loss."""
        task, count = self._task, self._task.recipe.gradient_accumulation_steps
        for part in range(count):
            number = self._state.step * count + part
            for batch in draw_batches(self._data, task, number, len(self._scheduler), self._process_group):
                preserve = task.preserves_outputs and batch.num_instance < len(batch.prompts)
                # Open until the caller's backward pass has ended: it may recompute activations
                with relative_output_change(task.sites if preserve else {}, batch.num_instance) as changes:
                    if preserve and task.recipe.random_token_ratio:
                        generator = torch.Generator().manual_seed(task.recipe.seed * 1_000_003 + number)
                        randomize_random_token(task.base.text_encoders, task.token, task.class_word, generator)
                    yield self._loss(batch, preserve, changes) / count

    def _loss(self, batch: Batch, preserve: bool, changes: Sequence[Tensor]) -> Tensor:
        """A batch's part of the step's mean loss; with `preserve`, the denoising loss of the samples that name the
        concept, plus the preservation loss of the others.
        """
        task, predictions = self._task, []
        with self._cast():
            before = self._base_prediction(batch) if preserve else None
            prompts = self.prompt_cache(batch.prompts)

            def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
                predictions.append(task.base.predict(noisy, timesteps, prompts))
                return predictions[-1]

            errors = self._errors(batch, predict)
        if not task.preserves_outputs:
            return errors.mean() * batch.share
        loss = errors[: batch.num_instance].sum() / batch.total_instance
        if before is None:
            return loss
        share = (len(batch.prompts) - batch.num_instance) / batch.total_prior
        preservation = preservation_loss(changes, predictions[0][batch.num_instance :], before)
        weight = task.recipe.output_preservation_weight * task.recipe.preservation_interval
        return loss + weight * share * preservation

    def _errors(self, batch: Batch, predict: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The per-sample denoising loss (n,)."""
        recipe = self._task.recipe
        form = RobustLoss(recipe.loss_type, recipe.huber_c, recipe.huber_schedule)
        errors = denoising_loss(
            self._scheduler, predict, batch.latents, batch.noise, batch.timesteps, batch.weights, form
        )
        gamma = recipe.snr_gamma
        return errors if gamma is None else errors * min_snr_weights(self._scheduler, batch.timesteps, gamma)

    @torch.no_grad()
    def _base_prediction(self, batch: Batch) -> Tensor:
        """The base's prediction, without adapters, for samples that do not name the concept, (n, channels, h, w)."""
        others = slice(batch.num_instance, None)
        noisy = self._scheduler.add_noise(batch.latents[others], batch.noise[others], batch.timesteps[others])
        with adapters_disabled(self._task.sites):
            prompts = self.prompt_cache(batch.prompts[others])
            return self._task.base.predict(noisy, batch.timesteps[others], prompts).float()


def _predict(base: Base, prompts: PromptEmbeds, noisy: Tensor, timesteps: Tensor) -> Tensor:
    return base.predict(noisy, timesteps, prompts)
