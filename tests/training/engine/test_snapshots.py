"""Snapshots of the concept on the way through a training, and the loss on pictures that are not trained on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from concepts.errors import StudioError
from studio.adapters.concept_file import from_bytes
from studio.models.base_model import Base
from studio.models.sampling_settings import SamplingSettings
from training.config.recipe import Recipe
from training.config.stored_recipe import total_steps
from training.engine import validation
from training.engine.trainer import Training, TrainingStopped, train_concept


@pytest.fixture
def train(base: Base, tmp_path: Path, monkeypatch) -> Callable[..., Training]:
    """A function that trains a dog on two pictures, with a snapshot every two steps."""
    monkeypatch.setattr(validation, "PREVIEW_SETTINGS", SamplingSettings(num_inference_steps=1))

    def run(recipe: dict[str, Any] | None = None, **options: Any) -> Training:
        pictures = [Image.new("RGB", (20, 20), colour) for colour in ("navy", "orange")]
        small: dict[str, Any] = {
            "rank": 4, "steps": 5, "batch_size": 4, "num_class_images": 4, "save_every_n_steps": 2,
            "num_validation_images": 1,
        }  # fmt: skip
        made = Recipe(**small | (recipe or {}))
        return train_concept(base, "rex", "dog", pictures, made, cache=tmp_path / "priors", **options)

    return run


def test_a_snapshot_is_what_a_training_of_so_many_steps_gives(train):
    constant = {"lr_scheduler": "constant", "lr_warmup_steps": 0}
    whole = train(constant, score=lambda pictures: 0.1 * len(pictures))
    assert [kept.step for kept in whole.snapshots] == [2, 4]
    assert [kept.alignment for kept in whole.snapshots] == [0.1, 0.1]
    assert not whole.record.alignments, "snapshots' scores stop no training early"
    shorter = train({**constant, "steps": 2})
    assert not shorter.snapshots, "the end is the result"
    snapshot, wanted = from_bytes(whole.snapshots[0].data, "it"), shorter.concept
    assert total_steps(snapshot) == 2
    for site, state in wanted.adapters.items():
        assert all(state[key].equal(snapshot.adapters[site][key]) for key in state), site
    assert all(wanted.tokens["<rex>"][part].equal(own) for part, own in snapshot.tokens["<rex>"].items())


def test_a_resumed_training_has_the_snapshots_of_before(train, tmp_path: Path):
    done: list[int] = []
    with pytest.raises(TrainingStopped):
        train(
            checkpoints=tmp_path / "kept", stop=lambda: 3 in done,
            on_progress=lambda progress: done.append(0 if progress.loss is None else progress.step),
        )  # fmt: skip
    resumed, whole = train(checkpoints=tmp_path / "kept"), train()
    assert [(kept.step, kept.data, kept.preview) for kept in resumed.snapshots] == [
        (kept.step, kept.data, kept.preview) for kept in whole.snapshots
    ]


def test_the_loss_on_validation_pictures_is_measured_and_they_are_not_trained_on(train, tmp_path: Path):
    kept = train({"num_validation_pictures": 1}, checkpoints=tmp_path / "kept")
    losses = kept.record.validation_losses
    assert [step for step, _ in losses] == [2, 4]
    assert all(0 < loss < 10 for _, loss in losses)
    alone = train({"num_validation_pictures": 1, "save_every_n_steps": None, "validation_steps": 4})
    assert alone.record.validation_losses[0] == losses[1], "the same noise and timesteps"
    for site, state in alone.concept.adapters.items():
        assert all(state[key].equal(kept.concept.adapters[site][key]) for key in state), site
    with pytest.raises(StudioError, match="none is left to train on"):
        train({"num_validation_pictures": 2})
