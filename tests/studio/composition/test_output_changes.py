"""Concepts that change layers' outputs, T-LoRA's and prefix tuning's, act in generation beside merged weights."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from concepts.errors import StudioError
from studio.adapters.concept_file import TrainedConcept, build_adapters, trained_states
from studio.adapters.injection import injected
from studio.adapters.registry import create_adapters, method_named
from studio.composition.merge import applied, merged_concept
from studio.composition.merge_config import MergeConfig
from studio.composition.patching import with_tokens
from studio.formats.exporting import export
from studio.models.base_model import Base, generate
from studio.models.regions.attention import APPENDED
from studio.models.regions.region import Region
from studio.models.sampling_settings import SamplingSettings
from studio.serving.serving import Serving
from training.config.recipe import Recipe
from training.engine.trainer import train_concept

SETTINGS = SamplingSettings(num_inference_steps=3)
METHODS = ("t_lora", "prefix_tuning")


@pytest.fixture(autouse=True)
def float32_throughout(monkeypatch):
    """Merged and injected weights differ by bfloat16's rounding."""
    monkeypatch.setattr(Base, "autocast", lambda self: nullcontext())


@pytest.fixture
def concept(base: Base) -> Callable[..., TrainedConcept]:
    """A function that makes a concept with random parameters."""

    def make(adapter: str, name: str = "rex", seed: int = 1) -> TrainedConcept:
        config = method_named(adapter).Config()
        adapters = create_adapters(
            adapter, config, base.sites_of(method_named(adapter).kinds(config)), base.decomposition
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in (p for each in adapters.values() for p in each.parameters()):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        width = base.text_encoders["text_encoder"][1].config.hidden_size
        tokens = {f"<{name}>": {"text_encoder": torch.randn(1, width, generator=generator)}}
        return TrainedConcept(base.decomposition.fingerprint, adapter, asdict(config), trained_states(adapters), tokens)

    return make


def pixels(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture, float) for picture in pictures])


@pytest.mark.parametrize("method", METHODS)
def test_a_concept_alone_generates_as_it_was_trained(base: Base, concept, method: str):
    rex = concept(method)
    with with_tokens(base, {"rex": rex}):
        plain = pixels(generate(base, "a <rex>", [0], SETTINGS))
        with injected(base.sites, build_adapters(rex, base.sites, base.decomposition)):
            expected = pixels(generate(base, "a <rex>", [0], SETTINGS))
    with applied(base, {"rex": rex}):
        found = pixels(generate(base, "a <rex>", [0], SETTINGS))
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - plain).mean() > 1
    with applied(base, {"rex": rex}, strengths={"rex": 0.0}):
        assert np.abs(pixels(generate(base, "a <rex>", [0], SETTINGS)) - plain).max() <= 1
    assert not any(APPENDED.values())


def test_prefixes_of_two_concepts_are_concatenated(base: Base, concept):
    concepts = {"rex": concept("prefix_tuning"), "milo": concept("prefix_tuning", "milo", 2)}
    site = next(site for name, site in base.sites_of(("cross_attention_kv",)).items() if name.endswith("to_k"))
    x = torch.randn(2, 7, site.weight.shape[1])
    with applied(base, concepts, strengths={"rex": 0.5}):
        keys = getattr(site.parent, site.attribute)(x)
    rows = [concepts[name].adapters[site.name]["rows"] for name in concepts]
    expected = torch.cat([site.module(x), torch.cat(rows).expand(2, -1, -1)], 1)  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(keys, expected)
    values = next(site for name, site in base.sites_of(("cross_attention_kv",)).items() if name.endswith("to_v"))
    with applied(base, concepts, strengths={"rex": 0.5}):
        last = getattr(values.parent, values.attribute)(x)[:, 7:15]
    torch.testing.assert_close(last, 0.5 * concepts["rex"].adapters[values.name]["rows"].expand(2, -1, -1))


def test_a_prefix_acts_in_its_region_alone(base: Base, concept):
    rex = concept("prefix_tuning")
    left = {"prompt": "a <rex>", "top": 0.0, "left": 0.0, "bottom": 1.0, "right": 0.5}
    regions = [Region(**left), Region("a cat", 0.0, 0.5, 1.0, 1.0)]
    one_step = SamplingSettings(num_inference_steps=1)

    def latents(strength: float) -> torch.Tensor:
        attended: list[torch.Tensor] = []
        block = next(m for n, m in base.pipeline.unet.named_modules() if n.endswith("attn2"))
        handle = block.register_forward_hook(lambda _m, _i, output: attended.append(output.detach().clone()))
        with applied(base, {"rex": rex}, strengths={"rex": strength}):
            generate(base, "a field", [0], one_step, regions=regions)
        handle.remove()
        side = int(attended[0].shape[1] ** 0.5)
        return attended[0].unflatten(1, (side, side))

    moved = (latents(1.0) - latents(0.0)).abs().amax((0, 1, 3))
    half = len(moved) // 2
    assert moved[:half].min() > 1e-4
    assert moved[half:].max() < 1e-5


def test_a_convolution_generates_as_it_was_trained(base: Base):
    config = method_named("t_lora").Config()
    sites = base.sites_of(("attention", "up_convolution"))
    adapters = create_adapters("t_lora", config, sites, base.decomposition)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (p for each in adapters.values() for p in each.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    metadata = {"recipe": Recipe(adapter="t_lora", target_modules=("attention", "up_convolution")).model_dump()}
    rex = TrainedConcept(
        base.decomposition.fingerprint, "t_lora", asdict(config), trained_states(adapters), {}, metadata
    )
    plain = pixels(generate(base, "a dog", [0], SETTINGS))
    with injected(sites, build_adapters(rex, sites, base.decomposition)):
        expected = pixels(generate(base, "a dog", [0], SETTINGS))
    with applied(base, {"rex": rex}):
        found = pixels(generate(base, "a dog", [0], SETTINGS))
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - plain).mean() > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_training_moves_it_and_leaves_the_base(base: Base, method: str, tmp_path: Path, state_of):
    small: dict[str, Any] = {"steps": 2, "batch_size": 4, "num_class_images": 4, "lr_warmup_steps": 0}
    before = state_of(base)
    pictures = [Image.new("RGB", (20, 20), colour) for colour in ("navy", "orange")]
    trained = train_concept(base, "rex", "dog", pictures, Recipe(adapter=method, **small), cache=tmp_path).concept
    sites = base.sites_of(method_named(method).kinds(method_named(method).Config()))
    fresh = trained_states(create_adapters(method, method_named(method).Config(), sites, base.decomposition))
    assert trained.adapters.keys() == fresh.keys()
    for site, state in trained.adapters.items():
        assert any(not torch.equal(tensor, fresh[site][name]) for name, tensor in state.items())
    assert state_of(base) == before


def test_what_no_merged_weight_can_have_is_refused(base: Base, concept, tmp_path: Path):
    prefix, lora = concept("prefix_tuning"), concept("t_lora", "milo", 2)
    for concepts in ({"rex": prefix}, {"milo": lora}):
        with pytest.raises(StudioError, match="changes layers' outputs and no weights"):
            merged_concept(base, concepts)
        with pytest.raises(StudioError, match="changes layers' outputs and no weights"):
            export(base, concepts, "full", tmp_path / "checkpoint")
        with pytest.raises(StudioError, match="cannot be used unmerged"):
            Serving(base, concepts)
    with pytest.raises(StudioError, match="rex was trained with prefix_tuning"):
        export(base, {"rex": prefix}, "kohya", tmp_path / "rex.safetensors")
    with pytest.raises(StudioError, match="milo was trained with t_lora"):
        export(base, {"milo": lora, "rex": concept("lora")}, "kohya", tmp_path / "both.safetensors")
    assert not [*tmp_path.iterdir()]
    made = export(base, {"milo": lora}, "kohya", tmp_path / "milo.safetensors", MergeConfig())
    assert made.error < 1e-6
