"""Every method through a training on the tiny base: trained, merged for generation, and continued."""

from dataclasses import asdict
from typing import Any

import pytest
import torch
from PIL import Image

from concepts.errors import StudioError
from studio.adapters import ADAPTERS
from studio.adapters.concept_file import from_bytes, to_bytes
from studio.adapters.cost import fit_budget, num_parameters, shapes_of
from studio.adapters.lora import Lora
from studio.adapters.registry import create_adapters
from studio.composition.loaded_concept import load_concept
from studio.composition.merge import applied, merged_concept
from studio.models.base_model import Base
from studio.models.token_embeddings import add_token, remove_all_tokens, token_vectors
from training.config.recipe import Recipe
from training.config.recipe_resolution import adapter_config, continued_recipe, parameter_groups, resolve_recipe
from training.engine.trainer import Training, train_concept

RANKS = {"oft": 4, "vera": 8}
TOKEN_ONLY = ("textual_inversion", "prompt_tuning")
"""tests/training/engine/test_token_only.py has their trainings."""
BUDGETS = {"vera": 4_000, "full": 50_000}


def recipe(adapter: str, **options: Any) -> Recipe:
    ranked = "rank" in ADAPTERS[adapter].Config.__dataclass_fields__
    given = {"rank": RANKS.get(adapter, 2)} if ranked else {}
    return Recipe(adapter=adapter, steps=3, batch_size=2, num_class_images=2, **{**given, **options})


def train(base: Base, recipe: Recipe, **options: Any) -> Training:
    pictures = [Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "navy")]
    return train_concept(base, "rex", "dog", pictures, recipe, **options)


@pytest.mark.parametrize("adapter", [name for name in ADAPTERS if name not in TOKEN_ONLY])
def test_every_method_trains_generates_and_restores_the_base(base: Base, state_of: Any, adapter: str):
    before, prompts = state_of(base), ["a photo of a dog on the beach"]
    plain = base.encode_prompts(prompts)
    training = train(base, recipe(adapter))
    concept = from_bytes(to_bytes(training.concept), "test")
    assert len(training.losses) == 3
    config = adapter_config(recipe(adapter))
    sites = base.sites_of(ADAPTERS[adapter].kinds(config))
    left_out = sites.keys() - concept.adapters.keys()
    assert not left_out or adapter == "ada_lora"  # which leaves out the layers without a triplet
    assert concept.adapters.keys() <= sites.keys()
    stored = sum(tensor.numel() for state in concept.adapters.values() for tensor in state.values())
    pruned = config.target / config.rank if adapter == "ada_lora" else 1
    assert stored == pruned * num_parameters(adapter, config, shapes_of(sites))
    assert any(adapter.delta(sites[name].weight).any() or adapter.bias_delta(sites[name].weight, sites[name].bias)
               is not None or adapter.acts_on_output
               for name, adapter in load_concept(base, concept).modules.items())  # fmt: skip
    reads_text = any(site.part == "text_encoder" for site in sites.values())
    with applied(base, {"rex": concept}):
        assert torch.equal(base.encode_prompts(prompts), plain) is not reads_text
    assert state_of(base) == before


def test_merging_adds_up_biases_and_leaves_what_a_lora_cannot_hold_out(base: Base):
    concepts = {name: train(base, recipe(name)).concept for name in ("bitfit", "ia3")}
    with pytest.raises(StudioError, match="changes norms, biases or embeddings"):
        merged_concept(base, {"one": concepts["bitfit"]})
    name = next(name for name, site in base.sites_of(("attention_kv",)).items() if site.bias is not None)
    site = base.sites_of(("bias",))[name]
    before = site.bias
    assert before is not None
    changes: list[Any] = [
        load_concept(base, concepts[m]).modules[name].bias_delta(site.weight, before) for m in concepts
    ]
    tokens = {"bitfit": concepts["bitfit"], "ia3": concepts["ia3"]}
    concepts["ia3"].tokens["<milo>"] = concepts["ia3"].tokens.pop("<rex>")
    with applied(base, tokens, strengths={"bitfit": 1.0, "ia3": 1.0}):
        torch.testing.assert_close(site.bias, before + changes[0] + changes[1])
    assert site.bias is before


@pytest.mark.parametrize("adapter", ["spectral_rotational", "lora", "dora", "ada_link", "ada_lora"])
def test_a_further_training_starts_from_the_trained_concept(base: Base, adapter: str):
    first = train(base, recipe(adapter)).concept
    further = continued_recipe(first, {"steps": 2})
    assert further.seed == 1
    none = train(base, further.model_copy(update={"unet_lr": 1e-12, "text_encoder_lr": 1e-12, "weight_decay": 0.0}),
                 start=first).concept  # fmt: skip
    second = train(base, further, start=first).concept
    before, same, after = (load_concept(base, concept).modules for concept in (first, none, second))
    moved = 0.0
    for name, adapter_before in before.items():
        weight = (base.sites | base.sites_of(("vocabulary",)))[name].weight
        start = adapter_before.delta(weight)
        torch.testing.assert_close(same[name].delta(weight), start, rtol=1e-3, atol=1e-6)
        moved += (after[name].delta(weight) - start).norm().item()
    assert moved > 1e-4


def test_a_further_training_keeps_its_adapter(base: Base):
    concept = train(base, recipe("lora")).concept
    for change in ({"adapter": "oft"}, {"rank": 4}, {"options": {"alpha": 1.0}}, {"layerwise_token": True}):
        with pytest.raises(StudioError, match="cannot be changed when a training is continued"):
            continued_recipe(concept, change)
    concept.metadata.clear()
    with pytest.raises(StudioError, match="from the beginning"):
        continued_recipe(concept, {})


def test_weight_decay_leaves_tokens_and_resting_scales_alone(base: Base):
    chosen = recipe("dora", unet_lr=0.5)
    config = adapter_config(chosen)
    adapters = {name: ADAPTERS["dora"](site.weight, config) for name, site in base.sites.items()}
    add_token(base.pipeline.tokenizer, base.pipeline.text_encoder, "<rex>", "dog")
    token = token_vectors(base.pipeline.text_encoder, "<rex>")
    groups = parameter_groups(base, base.sites, adapters, chosen, {"text_encoder": token})
    spared = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    assert spared == {id(token), *(id(a.get_parameter("magnitude")) for a in adapters.values())}
    assert sum(len(group["params"]) for group in groups) == 1 + 3 * len(adapters)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, adapter in adapters.items():
        expected = 0.5 if base.sites[name].part == "unet" else ADAPTERS["dora"].learning_rates["text_encoder"]
        assert {rates[id(p)] for p in adapter.parameters()} == {expected}
    remove_all_tokens(base.pipeline.tokenizer, base.pipeline.text_encoder)


def test_methods_without_a_rank_refuse_one():
    for adapter in ("svdiff", "ia3", "bitfit"):
        with pytest.raises(StudioError, match=rf"{adapter} has no option rank\. It has no options"):
            adapter_config(Recipe(adapter=adapter, rank=4))
    assert asdict(adapter_config(Recipe(adapter="krona", options={"factor": 4}))) == {
        "factor": 4, "scale": 1.0, "residual": False
    }  # fmt: skip
    assert adapter_config(Recipe(adapter="vera")).rank == 1024
    assert adapter_config(Recipe(adapter="orthogonal"), 16).first_column == 16


def test_a_budget_becomes_a_rank(base: Base):
    shapes = shapes_of(base.sites)
    least = num_parameters("lora", adapter_config(Recipe(adapter="lora", rank=1)), shapes)
    fitted = resolve_recipe(base, Recipe(adapter="lora", max_parameters=3 * least + 7, options={"alpha": 2.0}))
    assert (fitted.rank, fitted.max_parameters, fitted.options) == (3, None, {"alpha": 2.0})
    with pytest.raises(StudioError, match="rank and max_parameters cannot both be set"):
        resolve_recipe(base, Recipe(adapter="lora", max_parameters=3 * least, rank=3))
    with pytest.raises(StudioError, match=f"too small for lora on these layers. Choose at least {least:,}"):
        resolve_recipe(base, Recipe(adapter="lora", max_parameters=least - 1))


@pytest.mark.parametrize("adapter", [name for name in ADAPTERS if name not in TOKEN_ONLY])
def test_no_other_size_comes_closer_to_the_budget_from_below(base: Base, adapter: str):
    config = ADAPTERS[adapter].Config()
    shapes = shapes_of(base.sites_of(ADAPTERS[adapter].kinds(config)))
    budget = BUDGETS.get(adapter, 20_000)
    with pytest.raises(StudioError, match=rf"is too small for {adapter} on these layers"):
        fit_budget(adapter, config, shapes, 1)
    fitted = fit_budget(adapter, config, shapes, budget)
    assert num_parameters(adapter, fitted, shapes) <= budget
    again = resolve_recipe(base, Recipe(adapter=adapter, max_parameters=budget))
    assert num_parameters(adapter, adapter_config(again), shapes) == num_parameters(adapter, fitted, shapes)
    if "rank" in asdict(fitted) and adapter not in ("oft", "lidb", "lokr"):
        larger = type(fitted)(**{**asdict(fitted), "rank": fitted.rank + 1})
        narrowest = min(min(shape) for shape, _ in shapes)
        assert num_parameters(adapter, larger, shapes) > budget or larger.rank > narrowest


def test_loraplus_trains_the_factors_that_start_at_zero_at_a_higher_rate(base: Base):
    chosen = recipe("lora", unet_lr=1e-3, text_encoder_lr=1e-4, loraplus_lr_ratio=16, train_token=False)
    adapters = create_adapters("lora", adapter_config(chosen), base.sites, base.decomposition)
    groups = parameter_groups(base, base.sites, adapters, chosen, {})
    rates = {id(parameter): (group["lr"], group["part"]) for group in groups for parameter in group["params"]}
    for name, adapter in adapters.items():
        assert isinstance(adapter, Lora)
        rate = 1e-3 if name.startswith("unet") else 1e-4
        assert rates[id(adapter.down)] == (rate, name.split(".")[0])
        assert rates[id(adapter.up)] == (pytest.approx(16 * rate), name.split(".")[0])
    oft = recipe("oft", loraplus_lr_ratio=16)
    with pytest.raises(StudioError, match="oft has no factor B"):
        parameter_groups(base, base.sites, {}, oft, {})
