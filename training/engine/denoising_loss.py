"""The denoising loss, by the base's prediction type, and Min-SNR weights."""

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
    """The per-sample mean squared error (n,) of `predict(noisy latents, timesteps)`.

    The target is the noise (Ho et al., 2020, Eq. 14), the velocity (Salimans and Ho, 2022, appendix D) or the
    clean latents, by the scheduler's `prediction_type`. `latents` and `noise` are (n, channels, h, w); `weights`
    (n, 1, h, w) are the loss weights of positions.
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
    """The loss weight of each timestep, (n,), with the signal-to-noise ratio clamped to gamma.

    Hang et al., 2023, section 3.4: min(snr, gamma) for a prediction of clean latents, divided by snr for one of the
    noise, and by snr + 1 for one of the velocity.
    """
    snr = compute_snr(scheduler, timesteps)
    kind = scheduler.config["prediction_type"]
    if kind == "epsilon":
        return (gamma / snr).clamp(max=1)
    capped = snr.clamp(max=gamma)
    return capped / (snr + 1) if kind == "v_prediction" else capped


def draw_noise(shape: torch.Size, offset: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise, plus `offset` times one Gaussian number for each channel of each sample, on the CPU."""
    noise = torch.randn(shape, generator=generator)
    return noise + offset * torch.randn((*shape[:2], 1, 1), generator=generator) if offset else noise


def draw_timesteps(count: int, last: int, generator: torch.Generator) -> Tensor:
    """Stratified sampling: one timestep from each of `count` equal parts of 0..last-1."""
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (places * last).long().clamp(max=last - 1)
