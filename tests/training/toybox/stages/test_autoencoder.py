from typing import Any

import numpy as np
import pytest
import torch

from training.toybox.scenes.dataset import draw_all, scenes, to_levels, to_signal
from training.toybox.stages import autoencoder

pytestmark = pytest.mark.usefixtures("small_models")


def test_pictures_of_128_become_latents_of_16():
    model: Any = autoencoder.build().eval()
    with torch.no_grad():
        latents = autoencoder.encode(model, torch.zeros(1, 3, 128, 128))
        assert latents.shape == (1, autoencoder.LATENT_CHANNELS, 16, 16)
        assert autoencoder.decode(model, latents).shape == (1, 3, 128, 128)


def test_training_resumes_exactly(resumes_exactly):
    resumes_exactly(lambda folder, steps: autoencoder.train(folder, "cpu", steps))


def test_the_loss_falls():
    torch.manual_seed(0)
    model = autoencoder.build()
    signal = to_signal(torch.from_numpy(draw_all(scenes(0, count=2))).permute(0, 3, 1, 2))
    optimizer = autoencoder.MuonWithAdamW([(model, 1.0)], autoencoder.PEAK_RATE, autoencoder.OTHER_RATE)
    losses = []
    for _ in range(12):
        loss = autoencoder.loss(model, signal)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_crops_are_new_in_every_step_and_show_the_scene():
    crops = np.stack([autoencoder.draw_crop(np.random.default_rng(seed)) for seed in range(24)])
    assert crops.shape == (24, autoencoder.CROP, autoencoder.CROP, 3)
    assert len(np.unique(crops.reshape(24, -1), axis=0)) == 24
    detailed = crops.reshape(24, -1, 3).std(1).max(1) > 15
    assert detailed.sum() >= 20


def test_latents_are_folded_to_zero_mean_and_unit_deviation_without_changing_a_picture():
    torch.manual_seed(2)
    model: Any = autoencoder.build().eval()
    with torch.no_grad():
        model.quant_conv.bias += 1.5
        signal = to_signal(torch.from_numpy(draw_all(scenes(0, count=6))).permute(0, 3, 1, 2))
        before = autoencoder.decode(model, autoencoder.encode(model, signal))
        autoencoder.fold(model, "cpu")
        latents = autoencoder.encode(model, signal)
        torch.testing.assert_close(autoencoder.decode(model, latents), before, rtol=1e-3, atol=1e-3)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert (latents * model.config.scaling_factor).std().item() == pytest.approx(1, rel=1e-3)


def test_the_nearness_of_reconstructions_is_in_decibels(monkeypatch):
    pictures = np.full((2, 16, 16, 3), 255, np.uint8)
    monkeypatch.setattr(autoencoder, "encode", lambda _, signal: signal)
    monkeypatch.setattr(autoencoder, "decode", lambda _, signal: signal - 0.2)
    model: Any = None
    results, decibels = autoencoder.reconstructed(model, pictures, "cpu")
    assert decibels == pytest.approx(20, abs=1e-3)  # 10 log10(4 / 0.04)
    assert results.shape == pictures.shape
    assert np.abs(results.astype(int) - 229).max() <= 1


def test_what_it_is_measured_on_was_never_trained_on():
    assert autoencoder.sample_pictures().shape == (60, 128, 128, 3)
    unseen = autoencoder.unseen_pictures(2)
    assert unseen.shape[1:] == (128, 128, 3)
    assert np.array_equal(to_levels(to_signal(torch.from_numpy(unseen).permute(0, 3, 1, 2))), unseen)
