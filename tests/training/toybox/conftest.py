"""Toybox's stages at a size that trains in a moment: few renders, narrow models, small batches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from studio.bundled import TOYBOX
from training.toybox.evaluation import base_evaluation, identity_benchmark, verification
from training.toybox.scenes import dataset, tokenizer
from training.toybox.scenes.render import Scene
from training.toybox.stages import (
    autoencoder,
    denoiser,
    denoiser_batches,
    detector_training,
    identity,
    latent_cache,
    scorer,
    stage,
    text_encoder,
)

FEW = 6
"""Scenes in a shard."""
_all_scenes = dataset.scenes


def _few_scenes(shard: int, seed: int = dataset.TRAIN_SEED, count: int = FEW) -> list[Scene]:
    return _all_scenes(shard, seed, min(count, FEW))


@pytest.fixture
def small_world(monkeypatch) -> None:
    """Every shard has FEW scenes, and every stage reads one shard."""
    for module in (dataset, autoencoder, latent_cache, base_evaluation, tokenizer):
        monkeypatch.setattr(module, "scenes", _few_scenes)
    monkeypatch.setattr(denoiser_batches, "SHARDS", 1)
    monkeypatch.setattr(denoiser_batches, "SHARD", FEW)
    monkeypatch.setattr(denoiser_batches, "GROWTH", 3)


@pytest.fixture
def small_models(monkeypatch, small_world) -> None:
    """Narrow models, and batches of two."""
    for module in (autoencoder, text_encoder, denoiser, denoiser_batches, detector_training, scorer):
        monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(autoencoder, "CHANNELS", (8, 8, 8, 8))
    monkeypatch.setattr(denoiser, "CHANNELS", (16, 16, 32))
    monkeypatch.setattr(text_encoder, "WIDTH", 32)
    monkeypatch.setattr(text_encoder, "LAYERS", 1)
    monkeypatch.setattr(identity, "INDIVIDUALS", 2)
    monkeypatch.setattr(scorer, "POOL", FEW)
    monkeypatch.setattr(identity_benchmark, "trials", lambda count=2, seed=0: verification.trials(count, seed))
    monkeypatch.setattr(scorer, "VISION", {"image_size": 128, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32})
    monkeypatch.setattr(scorer, "TEXT", {"width": 32, "heads": 2, "layers": 1})


@pytest.fixture(scope="session")
def bundled_tokenizer() -> CLIPTokenizer:
    """The tokenizer of the bundled base."""
    return CLIPTokenizer.from_pretrained(TOYBOX / "tokenizer")


@pytest.fixture
def interrupted(monkeypatch) -> Callable:
    """A context in which a stage is killed just after its checkpoint of that step."""

    @contextmanager
    def context(step: int) -> Iterator[None]:
        save = stage._save

        def save_and_die(path: Path, done: int, *rest) -> None:
            save(path, done, *rest)
            if done == step:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
            patched.setattr(stage, "CHECKPOINT_SECONDS", -1)
            patched.setattr(stage, "_save", save_and_die)
            yield

    return context


@pytest.fixture
def resumes_exactly(tmp_path, interrupted) -> Callable:
    """Asserts that `train(folder, steps)` gives the same module in one go and when killed halfway."""

    def check(train: Callable[[Path, int], torch.nn.Module]) -> None:
        whole = train(tmp_path / "whole", 4).state_dict()
        with interrupted(2):
            train(tmp_path / "halves", 4)
        resumed = train(tmp_path / "halves", 4).state_dict()
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
        fewer = train(tmp_path / "fewer", 2).state_dict()
        assert not all(torch.equal(tensor, fewer[name]) for name, tensor in whole.items())

    return check
