"""The latents of a start image, noised to where sampling begins, and kept outside its mask."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from studio.models.img2img.init_image import InitImage
from studio.models.img2img.late_scheduler import LateScheduler


class Encoding(Protocol):
    """A base, as far as start images ask for it."""

    pipeline: Any

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures of one size as scaled latents (n, channels, h, w), float32."""
        ...


@dataclass(frozen=True, eq=False)
class Start:
    """Where sampling begins: its latents (n, channels, h, w), or None for those that the pipeline draws itself; the
    number of steps that run; and what becomes of the latents after the call of the model of an index, from 0.
    """

    latents: Tensor | None
    steps: int
    after_call: Callable[[Tensor, int], Tensor] = lambda latents, _call: latents


@contextmanager
def started(
    base: Encoding, init_image: InitImage | None, steps: int, generators: Sequence[torch.Generator], dtype: torch.dtype
) -> Iterator[Start]:
    """While open, the base's pipeline runs the last of `steps` steps that a start image leaves, by its present
    scheduler; without one nothing changes.

    This is SDEdit (Meng et al., 2022, Algorithm 1). Noise is drawn from one generator for each image. Where all steps
    run, sampling begins from noise alone, as without a start image.
    """
    if init_image is None:
        yield Start(None, steps)
        return
    pipeline = base.pipeline
    own, skipped = pipeline.scheduler, steps - init_image.steps(steps)
    late = LateScheduler(own, skipped)
    known = base.encode_pictures([init_image.picture]).to(dtype)
    noise = randn_tensor((len(generators), *known.shape[1:]), [*generators], known.device, dtype)
    late.set_timesteps(steps, device=known.device)
    begun = late.add_noise(known, noise, late.timesteps[:1]) if skipped else noise * own.init_noise_sigma
    pipeline.scheduler = late
    try:
        yield Start(begun, steps - skipped, _keeping(late, known, noise, _cells(init_image, pipeline.vae_scale_factor)))
    finally:
        pipeline.scheduler = own


def _keeping(
    scheduler: LateScheduler, known: Tensor, noise: Tensor, repainted: Tensor | None
) -> Callable[[Tensor, int], Tensor]:
    """What puts the start image's latents (1, channels, h, w) back outside the mask, at the noise level of the next
    call: Avrahami et al., 2023, Algorithm 1, and diffusers' inpainting for UNets that were not trained for it.
    """

    def keep(latents: Tensor, call: int) -> Tensor:
        if repainted is None:
            return latents
        left = scheduler.timesteps[call + 1 : call + 2]
        level = scheduler.add_noise(known, noise, left) if len(left) else known
        return torch.where(repainted.to(latents.device), latents, level)

    return keep


def _cells(init_image: InitImage, scale: int) -> Tensor | None:
    """The cells of the latents in which the mask has white, (1, 1, h, w) bool; None without a mask."""
    if init_image.mask is None:
        return None
    white = torch.from_numpy(np.array(init_image.mask, dtype=np.float32))
    return F.max_pool2d(white[None, None], scale) > 0
