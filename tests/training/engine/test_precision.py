"""Frozen weights in the precision of products."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from studio.adapters.concept_file import to_bytes
from studio.models.base_model import Base
from studio.models.sampling_settings import SamplingSettings
from training.config.recipe import Recipe
from training.engine import training_task, validation
from training.engine.precision import cast_once
from training.engine.trainer import train_concept
from training.engine.validation import Preview

RECIPE = Recipe(
    adapter="lora", rank=4, steps=2, batch_size=4, num_class_images=4, validation_steps=2, num_validation_images=1
)


@pytest.fixture(autouse=True)
def half(monkeypatch):
    """A machine that computes with bfloat16, whatever it is."""
    monkeypatch.setattr(Base, "autocast", lambda _: torch.autocast("cpu", torch.bfloat16))


def test_casting_once_changes_no_bit_of_a_training(base: Base, monkeypatch, tmp_path: Path, state_of):
    before = state_of(base)
    shown: list[Preview] = []

    def trained() -> bytes:
        pictures = [Image.new("RGB", (20, 20), colour) for colour in ("navy", "orange")]
        monkeypatch.setattr(validation, "PREVIEW_SETTINGS", SamplingSettings(num_inference_steps=2))
        return to_bytes(
            train_concept(base, "rex", "dog", pictures, RECIPE, cache=tmp_path, on_preview=shown.append).concept
        )

    once = trained()
    monkeypatch.setattr(training_task, "cast_once", lambda *_: nullcontext())
    assert trained() == once
    assert shown[0].pictures[0].tobytes() == shown[1].pictures[0].tobytes()
    assert state_of(base) == before


def test_frozen_matrices_are_cast_and_given_back(base: Base, state_of):
    before, unet = state_of(base), base.pipeline.unet
    with cast_once(base, "auto"):
        matrices = [m for part in base.parts.values() for m in part.modules() if type(m) in (nn.Linear, nn.Conv2d)]
        assert {m.weight.dtype for m in matrices} == {torch.bfloat16}
        assert unet.conv_norm_out.weight.dtype == torch.float32
    assert state_of(base) == before
    with cast_once(base, "float32"):
        assert state_of(base) == before
