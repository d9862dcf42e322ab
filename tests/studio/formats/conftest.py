"""Concepts of every kind of adapter on the tiny base, and pictures as numbers."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from studio.adapters.concept_file import TrainedConcept, trained_states
from studio.adapters.registry import create_adapters, method_named
from studio.composition.merge import applied
from studio.composition.merge_config import MergeConfig
from studio.models.base_model import Base
from studio.models.sampling import denoise
from studio.models.sampling_settings import SamplingSettings

SETTINGS = SamplingSettings(num_inference_steps=2, guidance_scale=3.0)
PROMPT = "a photo of <rex> on the beach"


@pytest.fixture
def base(base: Base, monkeypatch) -> Base:
    """The tiny base in float32 throughout, as other tools compute."""
    monkeypatch.setattr(Base, "autocast", lambda self: nullcontext())
    return base


@pytest.fixture(scope="session")
def random_concept() -> Callable[..., TrainedConcept]:
    """A function that makes a concept of any adapter with random numbers, as if it had been trained."""
    return _random_concept


def _random_concept(
    base: Base, adapter: str, name: str = "rex", seed: int = 1, size: float = 0.1, vectors: int = 1, **options: Any
) -> TrainedConcept:
    method = method_named(adapter)
    ranked = {"rank": 4} if "rank" in {field.name for field in fields(method.Config)} else {}
    config = method.Config(**{**ranked, **options})
    sites = base.sites_of(method.kinds(config))
    adapters = create_adapters(adapter, config, sites, base.decomposition)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (p for site in adapters.values() for p in site.parameters()):
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    tokens = {
        part: torch.randn(vectors, encoder.config.hidden_size, generator=generator)
        for part, (_, encoder) in base.text_encoders.items()
    }
    states = trained_states(adapters)
    return TrainedConcept(base.decomposition.fingerprint, adapter, asdict(config), states, {f"<{name}>": tokens})


@pytest.fixture(scope="session")
def our_picture() -> Callable[..., np.ndarray]:
    """A function that generates with concepts by the studio: (h, w, 3), 0 to 1."""
    return _our_picture


@torch.no_grad()
def _our_picture(base: Base, concepts: dict[str, TrainedConcept], plan: MergeConfig | None = None) -> np.ndarray:
    plan = plan or MergeConfig()
    with applied(base, concepts, plan.method, plan.strengths, plan.averaged):
        wanted, unwanted = base.encode([PROMPT]), base.encode([""])
        return denoise(base, wanted, unwanted, [3], SETTINGS, "np", lambda: None)[0]


@pytest.fixture(scope="session")
def their_picture() -> Callable[..., np.ndarray]:
    """A function that generates with a pipeline of diffusers: (h, w, 3), 0 to 1."""
    return _their_picture


@torch.no_grad()
def _their_picture(pipeline: Any, **options: Any) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        PROMPT,
        num_inference_steps=SETTINGS.num_inference_steps,
        guidance_scale=SETTINGS.guidance_scale,
        guidance_rescale=SETTINGS.guidance_rescale,
        generator=[torch.Generator().manual_seed(3)],
        output_type="np",
        **options,
    ).images[0]


@pytest.fixture
def pipeline(tiny_folder: Path) -> StableDiffusionPipeline:
    """diffusers' own pipeline of the tiny base."""
    return StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
