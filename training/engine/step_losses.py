"""The losses of a training step."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from training.data.dataset import TrainingSet
from training.data.random_token import randomize_random_token
from training.engine.batch_sampler import Batch, draw_batches
from training.engine.distributed import ProcessGroup
from training.engine.losses import denoising_loss, min_snr_weights
from training.engine.precision import cast_to
from training.engine.preservation_loss import adapters_disabled, relative_output_change
from training.engine.prompt_cache import PromptCache
from training.engine.task import Task
from training.engine.train_state import TrainState

OF_PREDICTION = 1 / 8
"""How much the squared change of the prediction counts beside the mean relative_output_change of the layers."""


class LossComputer:
    """Draws a state's batches and says how wrong the base is on them; `reader` reads their prompts."""

    def __init__(self, task: Task, data: TrainingSet, state: TrainState, process_group: ProcessGroup):
        self._task, self._data, self._state, self._process_group = task, data, state, process_group
        self._scheduler: Any = DDPMScheduler.from_config(task.base.pipeline.scheduler.config)
        self._cast = cast_to(task.recipe.mixed_precision, task.base)
        adapts_text = any(site.part != "unet" for site in task.sites.values())
        self.prompt_cache = PromptCache(task.base, state, adapts_text, task.recipe.low_memory)

    def losses(self) -> Iterator[Tensor]:
        """The next step's losses, each of some of its pictures, computed as they are asked for; their sum is the mean
        over all.
        """
        task, count = self._task, self._task.recipe.gradient_accumulation_steps
        for part in range(count):
            number = self._state.step * count + part
            for batch in draw_batches(self._data, task, number, len(self._scheduler), self._process_group):
                quiet = task.preserves_outputs and batch.own < len(batch.prompts)
                # Open until the caller has gone back through the loss: activations may be computed again on the way
                with relative_output_change(task.sites if quiet else {}, batch.own) as moved:
                    if quiet and task.recipe.random_token_ratio:
                        generator = torch.Generator().manual_seed(task.recipe.seed * 1_000_003 + number)
                        randomize_random_token(task.base.text_encoders, task.token, task.class_word, generator)
                    yield self._loss(batch, quiet, moved) / count

    def _loss(self, batch: Batch, quiet: bool, moved: Sequence[Tensor]) -> Tensor:
        """A batch's part of the step's mean loss; in a quiet training that of the pictures that name the concept, with
        the relative_output_change of the others.
        """
        task, said = self._task, []
        with self._cast():
            before = self._of_the_base(batch) if quiet else None
            prompts = self.prompt_cache(batch.prompts)

            def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
                said.append(task.base.predict(noisy, timesteps, prompts))
                return said[-1]

            errors = self._errors(batch, predict)
        if not task.preserves_outputs:
            return errors.mean() * batch.share
        loss = errors[: batch.own].sum() / batch.all_own
        if before is None:
            return loss
        change = (said[0][batch.own :].float() - before).square().mean()
        share = (len(batch.prompts) - batch.own) / batch.all_others
        layers = torch.stack([rows.mean() for rows in moved]).mean()
        return loss + task.recipe.output_preservation_weight * share * (layers + OF_PREDICTION * change)

    def _errors(self, batch: Batch, predict: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Each picture's denoising loss (n,)."""
        errors = denoising_loss(self._scheduler, predict, batch.latents, batch.noise, batch.timesteps, batch.weights)
        gamma = self._task.recipe.snr_gamma
        return errors if gamma is None else errors * min_snr_weights(self._scheduler, batch.timesteps, gamma)

    @torch.no_grad()
    def _of_the_base(self, batch: Batch) -> Tensor:
        """What the base alone predicts for the pictures that do not name the concept, (n, channels, h, w)."""
        others = slice(batch.own, None)
        noisy = self._scheduler.add_noise(batch.latents[others], batch.noise[others], batch.timesteps[others])
        with adapters_disabled(self._task.sites):
            prompts = self.prompt_cache(batch.prompts[others])
            return self._task.base.predict(noisy, batch.timesteps[others], prompts).float()
