"""The defaults of trainings by the base's family: published ones for Stable Diffusion 1.x, 2.x and XL.

The recipe's and the adapters' own defaults are toybox's. docs/how-to/presets.md has the source of each value here.
"""

from collections.abc import Mapping
from typing import Any

from studio.adapters.registry import method_named
from studio.models.families import OTHER, SD15, SD21, SDXL, Family
from training.config.caption_templates import PHOTO_CAPTIONS
from training.config.presets import PRESETS
from training.config.recipe import Recipe

_DREAMBOOTH: dict[str, Any] = {
    "batch_size": 2,
    "prior_ratio": 0.5,
    "output_preservation_weight": 0.0,
    "num_class_images": 200,
    "lr_scheduler": "constant",
    "lr_warmup_steps": 0,
    "templates": PHOTO_CAPTIONS,
}
"""diffusers' DreamBooth with prior preservation: one picture of the concept and one class image in each step."""
RECIPES: Mapping[str, Mapping[str, Any]] = {
    SD15.title: {**_DREAMBOOTH, "steps": 800, "buckets": 5},
    SD21.title: {**_DREAMBOOTH, "steps": 800, "buckets": 9},
    SDXL.title: {**_DREAMBOOTH, "steps": 500, "gradient_accumulation_steps": 4, "buckets": 13},
    OTHER.title: {},
}
"""The options of a family's recipe that differ from toybox's, by the family's title."""
LORA_RATES = {"unet": 1e-4, "text_encoder": 1e-5}
"""Learning rates of LoRA on Stable Diffusion."""
PUBLISHED_RATES: Mapping[str, Mapping[str, float]] = {
    "spectral_additive": LORA_RATES,
    "dora": LORA_RATES,
    "boft": {"unet": 3e-5},
    "svdiff": {"unet": 1e-3},
    "custom_diffusion": {"unet": 2e-5},
    "full": {"unet": 2e-6, "text_encoder": 2e-6},
}
"""Learning rates that are published for other adapters on Stable Diffusion."""
TOKEN_RATE, TOYBOX_TOKEN_RATE = 1e-3, 5e-3


def with_family_defaults(recipe: Recipe, family: Family) -> Recipe:
    """The recipe with the family's value of each option that was not set. Raises pydantic's ValidationError where these
    do not fit those that were.
    """
    if not RECIPES[family.title]:
        return recipe
    given = {name: getattr(recipe, name) for name in recipe.model_fields_set}
    return Recipe(**{**RECIPES[family.title], **given})


def presets_of(family: Family) -> dict[str, dict[str, Any]]:
    """The presets quick, standard and thorough of a family: half, all and twice its steps; for toybox its own."""
    steps = RECIPES[family.title].get("steps")
    if steps is None:
        return PRESETS
    counts = {"quick": steps // 2, "standard": steps, "thorough": 2 * steps}
    return {name: {"steps": count, "validation_steps": count // 2} for name, count in counts.items()}


def learning_rates(family: Family, adapter: str) -> Mapping[str, float]:
    """The default learning rates of an adapter's layers in "unet" and "text_encoder" on a family.

    Where none is published, toybox's rate times the ratio of LoRA's published rate to LoRA's on toybox.
    """
    toybox = method_named(adapter).learning_rates
    if family.title == OTHER.title:
        return toybox
    lora, published = method_named("lora").learning_rates, PUBLISHED_RATES.get(adapter, {})
    return {
        part: published.get(part, float(f"{rate * LORA_RATES[part] / lora[part]:.3g}")) for part, rate in toybox.items()
    }


def unset_values(family: Family, recipe: Recipe) -> dict[str, Any]:
    """What options of a recipe that are None mean on a family, where that is a value: the learning rates."""
    rates = learning_rates(family, recipe.adapter)
    return {"unet_lr": rates.get("unet"), "text_encoder_lr": rates.get("text_encoder"), "token_lr": token_rate(family)}


def token_rate(family: Family) -> float:
    """The default learning rate of a new token's embedding on a family."""
    return TOYBOX_TOKEN_RATE if family.title == OTHER.title else TOKEN_RATE
