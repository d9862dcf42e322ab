from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from training.engine.denoising_loss import (
    RobustLoss,
    denoising_loss,
    draw_noise,
    draw_timesteps,
    min_snr_weights,
    multires_noise,
)

TIMESTEPS = torch.tensor([0, 500, 999])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(3, 4, 8, 8, generator=generator(1))


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(3, 4, 8, 8, generator=generator(2))


def signal_and_noise(scheduler: DDPMScheduler) -> tuple[torch.Tensor, torch.Tensor]:
    kept = scheduler.alphas_cumprod[TIMESTEPS].view(-1, 1, 1, 1)
    return kept.sqrt(), (1 - kept).sqrt()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_loss_is_the_error_in_what_the_base_predicts(kind: Any, latents: torch.Tensor, noise: torch.Tensor):
    scheduler = DDPMScheduler(prediction_type=kind)
    alpha, sigma = signal_and_noise(scheduler)
    target = {"epsilon": noise, "v_prediction": alpha * noise - sigma * latents, "sample": latents}[kind]
    off_by = torch.tensor([0.0, 1.0, 2.0]).view(-1, 1, 1, 1)

    def predict(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        torch.testing.assert_close(noisy, alpha * latents + sigma * noise)
        assert torch.equal(timesteps, TIMESTEPS)
        return target + off_by

    loss = denoising_loss(scheduler, predict, latents, noise, TIMESTEPS)
    torch.testing.assert_close(loss, torch.tensor([0.0, 1.0, 4.0]))


def test_the_loss_is_float32_after_a_prediction_in_half_precision(latents: torch.Tensor, noise: torch.Tensor):
    loss = denoising_loss(DDPMScheduler(), lambda noisy, _: noisy.bfloat16(), latents, noise, TIMESTEPS)
    assert loss.dtype == torch.float32


def test_places_count_by_their_weights(latents: torch.Tensor, noise: torch.Tensor):
    scheduler, timesteps = DDPMScheduler(prediction_type="epsilon"), torch.full((len(latents),), 500)
    weights = torch.zeros(len(latents), 1, *latents.shape[2:])
    weights[..., 0, 0] = 3
    loss = denoising_loss(scheduler, lambda x, _: torch.zeros_like(x), latents, noise, timesteps, weights)
    torch.testing.assert_close(loss, noise[..., 0, 0].square().mean(1))
    even = denoising_loss(scheduler, lambda x, _: x, latents, noise, timesteps, torch.full_like(weights, 2))
    torch.testing.assert_close(even, denoising_loss(scheduler, lambda x, _: x, latents, noise, timesteps))


def test_noise_follows_from_its_generator():
    shape = torch.Size((2, 4, 8, 8))
    first = draw_noise(shape, 0.0, generator())
    assert torch.equal(first, draw_noise(shape, 0.0, generator()))
    assert not torch.equal(first, draw_noise(shape, 0.0, generator(1)))
    assert 0.8 < first.std() < 1.2


def test_an_offset_moves_every_channel_of_every_sample_as_a_whole():
    shape = torch.Size((50, 4, 8, 8))
    moved = draw_noise(shape, 0.5, generator()) - draw_noise(shape, 0.0, generator())
    torch.testing.assert_close(moved, moved[:, :, :1, :1].expand(shape), rtol=0, atol=1e-5)
    assert 0.4 < moved[:, :, 0, 0].std() < 0.6


@pytest.mark.parametrize("count", [1, 4, 7, 1000, 1500])
def test_each_part_of_the_schedule_gives_one_timestep(count: int):
    for seed in range(20):
        drawn = draw_timesteps(count, 1000, generator(seed))
        assert drawn.dtype == torch.long
        assert drawn.shape == (count,)
        assert drawn.min() >= 0
        assert drawn.max() <= 999
        lower = torch.arange(count) * 1000 / count
        assert (drawn >= lower.floor()).all()
        assert (drawn <= lower + 1000 / count).all()


def test_every_timestep_can_be_drawn():
    seen = {int(t) for seed in range(400) for t in draw_timesteps(5, 20, generator(seed))}
    assert seen == set(range(20))


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights_the_same_error_in_whatever_terms(gamma: float):
    schedulers = {kind: DDPMScheduler(prediction_type=kind) for kind in ("epsilon", "v_prediction", "sample")}
    alpha, sigma = (part.flatten() for part in signal_and_noise(schedulers["epsilon"]))
    snr = (alpha / sigma) ** 2
    weights = {kind: min_snr_weights(scheduler, TIMESTEPS, gamma) for kind, scheduler in schedulers.items()}
    assert weights["sample"] == pytest.approx(snr.clamp(max=gamma))
    # an error e of the clean latents is one of e * snr^0.5 in the noise, and of e * (snr + 1)^0.5 in the velocity
    torch.testing.assert_close(weights["epsilon"] * snr, weights["sample"])
    torch.testing.assert_close(weights["v_prediction"] * (snr + 1), weights["sample"])


def test_min_snr_weights_are_finite_where_there_is_no_signal():
    for kind in ("epsilon", "v_prediction", "sample"):
        scheduler = DDPMScheduler(prediction_type=kind, rescale_betas_zero_snr=True)
        assert min_snr_weights(scheduler, TIMESTEPS, 5.0).isfinite().all()


def robust_loss(error: float, form: RobustLoss, timestep: int) -> float:
    """The loss of a constant error of the noise."""
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    latents, noise = torch.zeros(1, 2, 4, 4), torch.randn(1, 2, 4, 4)
    timesteps = torch.tensor([timestep])
    return denoising_loss(scheduler, lambda _n, _t: noise + error, latents, noise, timesteps, form=form).item()


@pytest.mark.parametrize("error", [0.01, 0.5, 4.0])
def test_huber_losses_are_kohyas(error: float):
    c = 0.2
    root = (error**2 + c**2) ** 0.5 - c
    assert robust_loss(error, RobustLoss("huber", c, "constant"), 300) == pytest.approx(2 * c * root, rel=1e-4)
    assert robust_loss(error, RobustLoss("smooth_l1", c, "constant"), 300) == pytest.approx(2 * root, rel=1e-4)
    assert robust_loss(error, RobustLoss(), 300) == pytest.approx(error**2, rel=1e-4)


def test_the_hubers_threshold_follows_the_timestep():
    scheduler, timesteps = DDPMScheduler(num_train_timesteps=1000), torch.tensor([0, 500, 999])
    exponential = RobustLoss("huber", 0.1, "exponential").thresholds(scheduler, timesteps)
    assert exponential.tolist() == pytest.approx([1.0, 0.1**0.5, 0.1**0.999], rel=1e-5)
    kept = scheduler.alphas_cumprod[timesteps]
    sigma = ((1 - kept) / kept) ** 0.5
    by_snr = RobustLoss("huber", 0.1, "snr").thresholds(scheduler, timesteps)
    torch.testing.assert_close(by_snr, 0.9 / (1 + sigma) ** 2 + 0.1, rtol=1e-4, atol=1e-5)


def test_multi_resolution_noise_has_unit_variance_and_more_of_the_coarse():
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(64, 4, 16, 16, generator=generator)
    noise = multires_noise(plain, 6, 0.8, generator)
    assert noise.std().item() == pytest.approx(1, rel=1e-4)
    assert noise.mean((2, 3)).var() > 10 * plain.mean((2, 3)).var()
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean()
    assert neighbours > 0.2
    assert (plain[..., 1:] * plain[..., :-1]).mean().abs() < 0.05


def test_a_discount_of_nothing_adds_the_finest_resolution_alone():
    plain = torch.randn(2, 4, 8, 8)
    noise = multires_noise(plain, 3, 1e-6, torch.Generator().manual_seed(0))
    doubled = plain + torch.randn(2, 4, 8, 8, generator=_after_one_number())
    torch.testing.assert_close(noise, doubled / doubled.std(), rtol=1e-3, atol=1e-3)


def _after_one_number() -> torch.Generator:
    """The generator of seed 0 after the first resolution's factor was drawn."""
    generator = torch.Generator().manual_seed(0)
    torch.rand((), generator=generator)
    return generator
