"""No default of toybox reaches Stable Diffusion; what is set explicitly always wins."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from studio.adapters import ADAPTERS
from studio.models.base_model import Base
from studio.models.families import FAMILIES, OTHER, SD15, SD21, SDXL, Family
from studio.models.generation_request import GenerationRequest
from studio.models.sampling_settings import SamplingSettings
from training.config.family_presets import (
    RECIPES,
    learning_rates,
    presets_of,
    token_rate,
    unset_values,
    with_family_defaults,
)
from training.config.presets import PRESETS
from training.config.recipe import Recipe
from training.config.recipe_resolution import parameter_groups, resolve_recipe
from training.data.class_images import settings_of
from training.jobs.manifest import Manifest, runs_of
from training.jobs.variants import varied_recipe

LARGE = [family for family in FAMILIES if family is not OTHER]
BY_RATES = "unset means the adapter's rate, or the token's, for the base's family"
OFF = "off, as in diffusers and sd-scripts"
INDEPENDENT = {
    "seed": "any number will do",
    "prompt_syntax": "of the user",
    "prior_seed": "any number will do",
    "threads": "of the machine",
    "mixed_precision": "auto: bfloat16 where the device has it, which diffusers' examples set by hand",
    "gradient_checkpointing": OFF,
    "low_memory": "of the machine",
    "unet_lr": BY_RATES,
    "text_encoder_lr": BY_RATES,
    "token_lr": BY_RATES,
    "loraplus_lr_ratio": OFF,
    "optimizer": "diffusers' default",
    "weight_decay": "diffusers' adam_weight_decay, 1e-2",
    "lr_num_cycles": "acts with cosine_restarts alone",
    "max_grad_norm": "diffusers' default, 1.0",
    "ema_decay": OFF,
    "random_flip": OFF,
    "crops": OFF,
    "captions": "of the pictures",
    "shuffle_caption": OFF,
    "train_token": "a token is trained on all, as in Mix-of-Show and the Spectral Adapter paper",
    "num_vectors": "one vector, as in textual inversion (Gal et al., 2023)",
    "layerwise_token": OFF,
    "freeze_token_after": OFF,
    "validation_steps": OFF,
    "validation_prompt": "the DreamBooth paper's",
    "num_validation_images": "diffusers' default, 4",
    "early_stopping_patience": OFF,
    "keep_best": OFF,
    "save_every_n_steps": OFF,
    "num_validation_pictures": OFF,
    "adapter": "the project's own, whose paper measures it on Stable Diffusion",
    "rank": "unset: the adapter's own, from its paper",
    "max_parameters": OFF,
    "options": "the adapter's own",
    "target_modules": "unset: attention, diffusers' choice for LoRA; toybox's folder names its own",
    "snr_gamma": OFF,
    "noise_offset": OFF,
    "multires_noise_iterations": OFF,
    "multires_noise_discount": "acts with multires_noise_iterations alone; sd-scripts' default",
    "loss_type": "l2, as in diffusers",
    "huber_c": "acts with huber losses alone; sd-scripts' default",
    "huber_schedule": "acts with huber losses alone; sd-scripts' default",
    "preservation_interval": "acts with output_preservation_weight alone, which is 0",
    "random_token_ratio": "acts with output_preservation_weight alone, which is 0",
    "class_data_dir": "of the user",
    "masked_loss": "of the pictures",
    "unmasked_weight": "acts with masked_loss alone",
    "gradient_accumulation_steps": "1 in diffusers' examples for 1.x and 2.x, 4 in that for XL",
}
"""Options whose default is the same on toybox and on some family, with the reason."""
INDEPENDENT_SETTINGS = {
    "scheduler": "unset: the base's own, with which its family was published",
    "negative_prompt": "of the user",
    "prompt_syntax": "of the user",
    "size": "unset: the base's own training size",
}


def differing(family: Family) -> Iterator[str]:
    usual, own = Recipe(), with_family_defaults(Recipe(), family)
    return (name for name in Recipe.model_fields if getattr(usual, name) != getattr(own, name))


@pytest.mark.parametrize("family", LARGE, ids=lambda family: family.title)
def test_every_option_differs_from_toyboxs_or_is_independent_of_the_family(family: Family):
    found = {*differing(family), *INDEPENDENT}
    assert found == {*Recipe.model_fields}
    assert {*differing(family)} & {*INDEPENDENT} <= {"gradient_accumulation_steps"}
    assert {*differing(family)} == {*RECIPES[family.title]}


@pytest.mark.parametrize("family", LARGE, ids=lambda family: family.title)
def test_every_sampling_setting_differs_from_toyboxs_or_is_independent(family: Family):
    usual, own = SamplingSettings(), SamplingSettings().with_defaults(family)
    same = {name for name in SamplingSettings.model_fields if getattr(usual, name) == getattr(own, name)}
    assert same == {*INDEPENDENT_SETTINGS}
    assert settings_of(family) == own.model_copy(update={"batch_size": 4})
    assert family.scorer != OTHER.scorer


@pytest.mark.parametrize("family", LARGE, ids=lambda family: family.title)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_no_rate_of_toybox_reaches_another_family(family: Family, adapter: str):
    toybox, own = ADAPTERS[adapter].learning_rates, learning_rates(family, adapter)
    assert own.keys() == toybox.keys()
    assert all(own[part] <= toybox[part] / 10 for part in own)
    assert learning_rates(OTHER, adapter) == toybox
    assert token_rate(family) < token_rate(OTHER)


def test_published_rates():
    assert learning_rates(SD15, "lora") == {"unet": 1e-4, "text_encoder": 1e-5}
    assert learning_rates(SDXL, "boft") == {"unet": 3e-5, "text_encoder": 4e-6}
    assert learning_rates(SD15, "oft") == {"unet": 5e-5, "text_encoder": 4e-6}
    assert unset_values(SD15, Recipe(adapter="lora")) == {"unet_lr": 1e-4, "text_encoder_lr": 1e-5, "token_lr": 1e-3}


def test_toyboxs_recipe_stays_as_it_is():
    assert with_family_defaults(Recipe(), OTHER) == Recipe()
    assert presets_of(OTHER) == PRESETS
    assert SamplingSettings().with_defaults(OTHER) == SamplingSettings()


def test_what_is_set_explicitly_wins_even_where_it_is_toyboxs_default():
    defaults = {name: getattr(Recipe(), name) for name in RECIPES[SDXL.title]}
    assert with_family_defaults(Recipe(**defaults), SDXL) == Recipe(**defaults)
    with pytest.raises(ValidationError, match="the batch has no picture of the concept"):
        with_family_defaults(Recipe(prior_ratio=0.8), SD15)


def test_presets_are_half_all_and_twice_the_steps():
    assert [preset["steps"] for preset in presets_of(SD15).values()] == [400, 800, 1600]
    assert [preset["validation_steps"] for preset in presets_of(SDXL).values()] == [125, 250, 500]


def sd_scripts_buckets(side: int, most: float) -> int:
    """How many buckets of sd-scripts, in steps of 64 from 256 pixels, have sides of at most 1 : `most`."""
    sizes = {(side, side)}
    for width in range(256, 2 * side + 64, 64):
        height = side * side // width // 64 * 64
        if height >= 256 and max(width, height) / min(width, height) <= most:
            sizes |= {(width, height), (height, width)}
    return len(sizes)


@pytest.mark.parametrize(("title", "side"), [(SD15.title, 512), (SD21.title, 768), (SDXL.title, 1024)])
def test_the_number_of_buckets_is_that_of_sd_scripts(title: str, side: int):
    assert RECIPES[title]["buckets"] == sd_scripts_buckets(side, 2)


@pytest.fixture
def large(base: Base, monkeypatch) -> Base:
    """The tiny base as one of Stable Diffusion 1.x."""
    monkeypatch.setattr(Base, "family", SD15)
    return base


def test_a_recipe_is_resolved_for_the_bases_family(large: Base):
    resolved = resolve_recipe(large, Recipe(batch_size=4))
    assert (resolved.steps, resolved.batch_size, resolved.num_class_images) == (800, 4, 200)
    assert resolve_recipe(large, resolved) == resolved
    groups = parameter_groups(large, {}, {}, resolved, {})
    assert [(group["part"], group["lr"]) for group in groups] == []


def test_variants_keep_what_is_unset(large: Base):
    varied = varied_recipe(Recipe(steps=7), {"adapter": "lora", "rank": 2})
    assert (varied.steps, resolve_recipe(large, varied).batch_size) == (7, 2)


def test_manifests_leave_unset_what_they_do_not_name(large: Base, tmp_path: Any):
    (tmp_path / "rex").mkdir()
    concepts = [{"pictures": "rex", "class": "dog"}]
    (run,) = runs_of(Manifest.model_validate({"recipe": {"steps": 7}, "concepts": concepts}), tmp_path)
    resolved = resolve_recipe(large, run.recipe)
    assert (resolved.steps, resolved.num_class_images) == (7, 200)


def test_a_request_keeps_what_it_names():
    request = GenerationRequest(prompt="a cat", num_images=2, guidance_scale=3.0).with_defaults(SDXL)
    assert (request.num_images, request.guidance_scale, request.num_inference_steps) == (2, 3.0, 50)
    assert request.text(1)["num_inference_steps"] == "50"
