"""Stable Diffusion 1.5 at its true size, with random weights: learning, merging and exporting within 12 GB."""

import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from studio.composition.merge_config import MergeConfig
from studio.formats.exporting import export
from studio.models.architectures.stable_diffusion import sd15
from studio.models.base_model import Base
from studio.models.checkpoints.configurations import clip_tokenizer, scheduler_of, write_configurations
from training.config.recipe import Recipe
from training.engine.trainer import train_concept

SIDE = 256
"""The pictures' side; the layers are those of 512, and only their inputs are smaller."""


@pytest.fixture
def base(tmp_path: Path) -> Base:
    write_configurations("sd15", tmp_path)
    sizes: Any = AutoencoderKL.load_config(tmp_path / "vae")
    parts: dict[str, Any] = {
        **sd15(), "vae": AutoencoderKL.from_config(sizes), "safety_checker": None, "feature_extractor": None,
    }  # fmt: skip
    parts["unet"].register_to_config(sample_size=SIDE // 8)
    scheduler = scheduler_of("sd15")
    pipeline = StableDiffusionPipeline(
        **parts, tokenizer=clip_tokenizer(), scheduler=scheduler, requires_safety_checker=False
    )
    return Base("sd15", pipeline, tmp_path / "columns")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_learning_merging_and_exporting(base: Base, tmp_path: Path):
    pictures = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("navy", "orange")]
    concepts = {}
    for index, name in enumerate(("rex", "milo", "azura")):
        recipe = Recipe(rank=8, steps=3, batch_size=2, num_class_images=2)
        concepts[name] = train_concept(base, name, "dog", pictures, recipe, first_column=8 * index).concept
    trained = sum(tensor.numel() for state in concepts["rex"].adapters.values() for tensor in state.values())
    assert trained == 2_184_192
    made = export(base, concepts, "kohya", tmp_path / "three.safetensors", MergeConfig("spectral"))
    assert (made.rank, made.error < 1e-5) == (48, True)
    assert len(load_file(made.path)) == 176 * 3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.1f} GB, threads {torch.get_num_threads()}")
    assert peak < 12
