import numpy as np
import pytest
import torch

from training.toybox import autoencoder, latents, renders
from training.toybox.latents import encoded
from training.toybox.renders import draw_all, pictures, scenes, softened, to_signal

FEW = 6
"""Scenes in a shard of the small world."""


@pytest.fixture
def model(small_models):
    torch.manual_seed(0)
    return autoencoder.build().eval()


def test_every_shard_is_encoded_once(model, tmp_path, monkeypatch):
    drawn, first = encoded(tmp_path, model, 2, "cpu")
    assert len(drawn) == len(first) == 2 * FEW
    assert first.shape[1:] == (autoencoder.LATENT_CHANNELS, 16, 16)
    assert first.dtype == torch.float16
    monkeypatch.setattr(latents, "_encode", lambda *_: pytest.fail("it is on disk"))
    again, stored = encoded(tmp_path, model, 2, "cpu")
    assert again == drawn
    assert torch.equal(stored, first)


def test_latents_belong_to_their_scenes(model, tmp_path):
    drawn, latent = encoded(tmp_path, model, 1, "cpu")
    levels = torch.from_numpy(draw_all(drawn[2:3])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.encode(to_signal(levels)).latent_dist.mode()
    torch.testing.assert_close(latent[2:3].float(), expected, rtol=0.05, atol=0.05)
    assert not torch.allclose(latent[0], latent[2], atol=0.05)


def test_a_shard_is_drawn_once_and_read_again(small_world, tmp_path, monkeypatch):
    first = pictures(tmp_path, 0)
    assert first.shape == (FEW, 3, 128, 128)
    assert first.dtype == torch.uint8
    assert np.array_equal(first.permute(0, 2, 3, 1).numpy(), draw_all(renders.scenes(0)))
    monkeypatch.setattr(renders, "draw_all", lambda _: pytest.fail("it is on disk"))
    assert torch.equal(pictures(tmp_path, 0), first)


def test_shards_and_seeds_have_scenes_of_their_own():
    assert scenes(0, count=5) == scenes(0, count=5)
    assert scenes(0, count=9)[:5] == scenes(0, count=5)
    assert not set(scenes(0, count=50)) & set(scenes(1, count=50))
    assert not set(scenes(0, renders.TRAIN_SEED, 50)) & set(scenes(0, renders.TEST_SEED, 50))


def test_levels_become_a_signal_around_zero():
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    signal = to_signal(levels)
    assert signal.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(signal[0, :, 0, 0], torch.tensor([-1, -0.6, 1]))


def test_softened_pictures_are_the_same_pictures_still(small_world, tmp_path):
    signal = to_signal(pictures(tmp_path, 0)[:2])
    for seed in range(6):
        torch.manual_seed(seed)
        soft = softened(signal, np.random.default_rng(seed))
        assert soft.shape == signal.shape
        assert not torch.equal(soft, signal)
        assert (soft - signal).square().mean() < 0.1
