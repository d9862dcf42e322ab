import numpy as np
import pytest
import torch
from PIL import Image

from training.toybox.scenes import dataset
from training.toybox.scenes.dataset import draw_all, pictures, scenes, softened, to_signal
from training.toybox.scenes.render import Placement
from training.toybox.stages import autoencoder, latent_cache
from training.toybox.stages.latent_cache import NO_ITEM, cover, encoded, fingerprint, shown_items

FEW = 6
"""Scenes in a shard of the small world."""


@pytest.fixture
def model(small_models):
    torch.manual_seed(0)
    return autoencoder.build().eval()


def test_every_shard_is_encoded_once(model, tmp_path, monkeypatch):
    first = encoded(tmp_path, model, 0, "cpu")
    assert len(first.scenes) == len(first.latents) == FEW
    assert first.latents.shape[1:] == (autoencoder.LATENT_CHANNELS, 16, 16)
    assert first.latents.dtype == torch.float16
    monkeypatch.setattr(latent_cache, "_encode", lambda *_: pytest.fail("it is on disk"))
    again = encoded(tmp_path, model, 0, "cpu")
    assert again.scenes == first.scenes
    assert torch.equal(again.latents, first.latents)
    assert torch.equal(again.covered, first.covered)


def test_another_autoencoder_has_other_shards(model, tmp_path):
    first = encoded(tmp_path, model, 0, "cpu")
    other = autoencoder.build().eval()
    assert fingerprint(other) != fingerprint(model)
    assert not torch.equal(encoded(tmp_path, other, 0, "cpu").latents, first.latents)


def test_latents_belong_to_their_scenes(model, tmp_path):
    shard = encoded(tmp_path, model, 0, "cpu")
    levels = torch.from_numpy(draw_all(shard.scenes[2:3])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.encode(to_signal(levels)).latent_dist.mode()
    torch.testing.assert_close(shard.latents[2:3].float(), expected, rtol=0.05, atol=0.05)
    assert not torch.allclose(shard.latents[0], shard.latents[2], atol=0.05)


def test_items_cover_the_cells_that_they_are_seen_in():
    opacity = Image.new("L", (128, 128))
    opacity.paste(255, (0, 0, 12, 8))
    covered = cover([Placement((0, 0, 12, 8), opacity)])
    assert covered.shape == (16, 16)
    assert covered[0, :3].tolist() == [255, 128, 0]
    assert covered[1:].max() == 0
    assert cover([]).max() == 0


def test_a_cell_shows_the_foremost_item_that_covers_half_of_it():
    behind, before = Image.new("L", (128, 128)), Image.new("L", (128, 128))
    behind.paste(255, (0, 0, 32, 8))
    before.paste(255, (8, 0, 20, 8))
    shown = shown_items([Placement((0, 0, 32, 8), behind), Placement((8, 0, 20, 8), before)])
    assert shown[0, :5].tolist() == [0, 1, 1, 0, NO_ITEM]
    assert (shown[1:] == NO_ITEM).all()


def test_a_shard_is_generated_once_and_then_loaded(small_world, tmp_path, monkeypatch):
    first = pictures(tmp_path, 0)
    assert first.shape == (FEW, 3, 128, 128)
    assert first.dtype == torch.uint8
    assert np.array_equal(first.permute(0, 2, 3, 1).numpy(), draw_all(dataset.scenes(0)))
    monkeypatch.setattr(dataset, "draw_all", lambda _: pytest.fail("it is on disk"))
    assert torch.equal(pictures(tmp_path, 0), first)


def test_shards_and_seeds_have_different_scenes():
    assert scenes(0, count=5) == scenes(0, count=5)
    assert scenes(0, count=9)[:5] == scenes(0, count=5)
    assert not set(scenes(0, count=50)) & set(scenes(1, count=50))
    assert not set(scenes(0, dataset.TRAIN_SEED, 50)) & set(scenes(0, dataset.TEST_SEED, 50))


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
