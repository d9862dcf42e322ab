"""The denoising loss, by the base's prediction type, its robust forms, and Min-SNR weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor
from torch.nn import functional as F

LossType = Literal["l2", "huber", "smooth_l1"]
HuberSchedule = Literal["snr", "exponential", "constant"]


@dataclass(frozen=True)
class RobustLoss:
    """The error's form: l2, or kohya's pseudo-Huber forms, whose threshold c follows the timestep by a schedule.

    With an error e, huber is 2 c (√(e² + c²) − c), which for small c is like |e|, and smooth_l1 is 2 (√(e² + c²) − c).
    c is `huber_c`, its `exponential` fall from 1 at t = 0 to `huber_c` at t = T, or, by `snr`, (1 − c) / (1 + σ)² + c
    with σ = √(1 / snr). Source: Khrapov et al., 2024, "Improving diffusion models' data-corruption resistance using
    scheduled pseudo-Huber loss", in the form of kohya's `loss_type`, `huber_c` and `huber_schedule`.
    """

    kind: LossType = "l2"
    huber_c: float = 0.1
    schedule: HuberSchedule = "snr"

    def of(self, error: Tensor, scheduler: DDPMScheduler, timesteps: Tensor) -> Tensor:
        """The loss of each entry of an error (n, channels, h, w) at timesteps (n,)."""
        if self.kind == "l2":
            return error.square()
        c = self.thresholds(scheduler, timesteps).view(-1, 1, 1, 1)
        root = (error.square() + c.square()).sqrt() - c
        return 2 * c * root if self.kind == "huber" else 2 * root

    def thresholds(self, scheduler: DDPMScheduler, timesteps: Tensor) -> Tensor:
        """c at timesteps (n,), (n,)."""
        if self.schedule == "exponential":
            return torch.exp(math.log(self.huber_c) * timesteps.float() / scheduler.config["num_train_timesteps"])
        if self.schedule == "snr":
            sigma = compute_snr(scheduler, timesteps).clamp(min=1e-8).rsqrt()
            return (1 - self.huber_c) / (1 + sigma).square() + self.huber_c
        return torch.full(timesteps.shape, self.huber_c, device=timesteps.device)


L2 = RobustLoss()


def denoising_loss(
    scheduler: DDPMScheduler,
    predict: Callable[[Tensor, Tensor], Tensor],
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    weights: Tensor | None = None,
    form: RobustLoss = L2,
) -> Tensor:
    """The per-sample mean loss (n,) of `predict(noisy latents, timesteps)`: the squared error, or another `form`.

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
    loss = form.of(predict(noisy, timesteps).float() - target, scheduler, timesteps)
    if weights is None:
        return loss.mean((1, 2, 3))
    return (loss * weights).mean((1, 2, 3)) / weights.mean((1, 2, 3))


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


def multires_noise(noise: Tensor, iterations: int, discount: float, generator: torch.Generator) -> Tensor:
    """Noise (n, channels, h, w) plus noise of `iterations` resolutions, the i-th, from 0, times discount^i and coarser
    by r^i for a random r from 2 to 4, until one pixel is left; of unit standard deviation again, on the CPU.

    Source: Whitaker,
    2023, "Multi-resolution noise for diffusion model training" (blog); kohya's `multires_noise_iterations` and
    `multires_noise_discount`.
    """
    height, width = noise.shape[-2:]
    total = noise
    for index in range(iterations):
        factor = (2 + 2 * float(torch.rand((), generator=generator))) ** index
        size = max(1, int(height / factor)), max(1, int(width / factor))
        coarse = torch.randn(*noise.shape[:2], *size, generator=generator)
        total = total + discount**index * F.interpolate(coarse, (height, width), mode="bilinear")
        if 1 in size:
            break
    return total / total.std()


def draw_timesteps(count: int, last: int, generator: torch.Generator) -> Tensor:
    """Stratified sampling: one timestep from each of `count` equal parts of 0..last-1."""
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (places * last).long().clamp(max=last - 1)
