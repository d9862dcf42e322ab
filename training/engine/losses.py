"""The loss of a denoiser, in the terms of whatever the base predicts."""

from collections.abc import Callable

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor


def denoising_loss(
    scheduler: DDPMScheduler,
    predict: Callable[[Tensor, Tensor], Tensor],
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Each sample's mean squared error (n,) of what `predict(noisy latents, timesteps)` should have said.

    The target is the noise (Ho et al., 2020, Eq. 14), the velocity (Salimans and Ho, 2022, appendix D) or the
    clean latents, as the scheduler's `prediction_type` has it. `latents` and `noise` are (n, channels, h, w);
    `weights` (n, 1, h, w) say how much each place counts.
    """
    noisy = scheduler.add_noise(latents, noise, timesteps)  # pyright: ignore[reportArgumentType]
    kind = scheduler.config["prediction_type"]
    if kind == "v_prediction":
        target = scheduler.get_velocity(latents, noise, timesteps)  # pyright: ignore[reportArgumentType]
    else:
        target = noise if kind == "epsilon" else latents
    error = predict(noisy, timesteps).float() - target
    if weights is None:
        return error.square().mean((1, 2, 3))
    return (error.square() * weights).mean((1, 2, 3)) / weights.mean((1, 2, 3))


def min_snr_weights(scheduler: DDPMScheduler, timesteps: Tensor, gamma: float) -> Tensor:
    """How much the error at each timestep counts, (n,), so that no signal-to-noise ratio above gamma counts for more.

    Hang et al., 2023, section 3.4: min(snr, gamma) in the terms of clean latents, which is divided by snr for an error
    of the noise, and by snr + 1 for one of the velocity.
    """
    snr = compute_snr(scheduler, timesteps)
    kind = scheduler.config["prediction_type"]
    if kind == "epsilon":
        return (gamma / snr).clamp(max=1)
    capped = snr.clamp(max=gamma)
    return capped / (snr + 1) if kind == "v_prediction" else capped


def draw_noise(shape: torch.Size, offset: float, generator: torch.Generator) -> Tensor:
    """Unit noise, plus `offset` times one number for each channel of each sample, on the CPU."""
    noise = torch.randn(shape, generator=generator)
    return noise + offset * torch.randn((*shape[:2], 1, 1), generator=generator) if offset else noise


def draw_timesteps(count: int, last: int, generator: torch.Generator) -> Tensor:
    """One timestep from each of `count` equal parts of 0..last-1: as random as independent ones, with less spread."""
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (places * last).long().clamp(max=last - 1)
