"""A scheduler that begins at a later step, for pipelines that otherwise begin at the first."""

from typing import Any

import torch
from diffusers import PNDMScheduler
from torch import Tensor


class LateScheduler:
    """One of diffusers' schedulers without its first `skipped` steps, as diffusers' img2img pipelines cut them off.

    The pipeline of text to image takes it in the scheduler's place, so that guidance rescale, SDXL's size conditioning
    and all else are the same with and without a start image. The latents that the pipeline is given are at the noise
    level of the first step already.
    """

    init_noise_sigma = 1.0

    def __init__(self, scheduler: Any, skipped: int):
        self._scheduler, self._skipped = scheduler, skipped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def set_timesteps(self, *arguments: Any, **options: Any) -> None:
        """Sets the scheduler's timesteps, all of them."""
        self._scheduler.set_timesteps(*arguments, **options)
        self.set_begin_index(0)

    def set_begin_index(self, index: int = 0) -> None:
        """Has the scheduler begin at one of `timesteps`; those that know each timestep by its value need not."""
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(self._skipped * self._scheduler.order + index)

    @property
    def timesteps(self) -> Tensor:
        """The timesteps of the steps that are left."""
        whole = self._scheduler.timesteps
        if self._skipped and isinstance(self._scheduler, PNDMScheduler) and self._scheduler.config["skip_prk_steps"]:
            # PLMS has its second timestep twice; diffusers' img2img cuts that off, and is off by one step from then on.
            left = whole[self._skipped + 1 :]
            return torch.cat([left[:2], left[1:]])
        return whole[self._skipped * self._scheduler.order :]
