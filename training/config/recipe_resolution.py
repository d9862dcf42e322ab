"""Derives the adapter's options and the optimizer's parameter groups from a recipe."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.concept_file import TrainedConcept
from studio.adapters.cost import fit_budget, shapes_of
from studio.adapters.registry import method_named
from studio.adapters.singular_columns import OwnColumns, with_sampled_columns
from studio.layers.target_modules import Site
from studio.models.base_model import Base
from training.config.family_presets import learning_rates, token_rate, with_family_defaults
from training.config.recipe import Recipe
from training.config.stored_recipe import stored_recipe

_FIXED = ("adapter", "rank", "max_parameters", "options", "target_modules", "num_vectors", "layerwise_token")


def adapter_config(recipe: Recipe, first_column: int = 0) -> Any:
    """The adapter's options from the recipe; StudioError for one that the adapter does not have or of another type."""
    method = method_named(recipe.adapter)
    known = [field.name for field in fields(method.Config)]
    given = dict(recipe.options)
    if recipe.rank is not None:
        given["rank"] = recipe.rank
    if "first_column" in given:
        raise StudioError("first_column cannot be set as an option. Set --column, or leave it to the library.")
    if "sampled_from" in given:
        raise StudioError("sampled_from is set by the training. Leave it out.")
    if method.owns_block:
        given["first_column"] = first_column
    if unknown := next((name for name in given if name not in known), None):
        raise StudioError(f"{recipe.adapter} has no option {unknown}. It has {_listed(known)}.")
    try:
        return TypeAdapter(method.Config).validate_python(asdict(method.Config(**given)))
    except ValidationError as error:
        first = error.errors()[0]
        raise StudioError(
            f"Invalid value of {recipe.adapter}'s option {first['loc'][0]}: {first['msg'].lower()}."
        ) from error


def new_config(base: Base, name: str, recipe: Recipe, first_column: int) -> Any:
    """The adapter's options for a new training of the concept `name`; sampled columns are drawn here."""
    config = adapter_config(recipe, first_column)
    if isinstance(config, OwnColumns.Config) and config.columns == "sampled" and config.indices is None:
        return with_sampled_columns(config, base.decomposition.capacity, name)
    return config


def _listed(names: list[str]) -> str:
    own = [name for name in names if name != "first_column"]
    return f"the options {', '.join(own)}" if own else "no options"


def resolve_recipe(base: Base, recipe: Recipe) -> Recipe:
    """The recipe with this base's defaults: its family's options where none are set, the layers that it adapts, an
    absolute `class_data_dir`, and instead of `max_parameters` the size that fits, as rank and options; StudioError if
    none fits.
    """
    recipe = with_family_defaults(recipe, base.family)
    if not method_named(recipe.adapter).kinds(adapter_config(recipe)) and (
        not recipe.train_token or recipe.freeze_token_after
    ):
        raise StudioError(
            f"{recipe.adapter} trains the token and nothing else. Leave train_token and freeze_token_after out."
        )
    if recipe.class_data_dir:
        folder = Path(recipe.class_data_dir).expanduser().absolute()
        recipe = recipe.model_copy(update={"class_data_dir": str(folder)})
    if recipe.target_modules is None and method_named(recipe.adapter).kinds(adapter_config(recipe)) == ("attention",):
        recipe = recipe.model_copy(update={"target_modules": base.default_target_modules})
    if recipe.max_parameters is None:
        return recipe
    if recipe.rank is not None:
        raise StudioError(
            "rank and max_parameters cannot both be set, since each decides the adapter's size. Leave one out."
        )
    start = adapter_config(recipe)
    shapes = shapes_of(base.sites_of(kinds_of_recipe(recipe, start)))
    fitted = asdict(fit_budget(recipe.adapter, start, shapes, recipe.max_parameters))
    changed = {name: value for name, value in fitted.items() if value != asdict(start)[name] and name != "rank"}
    update = {"rank": fitted.get("rank"), "options": {**recipe.options, **changed}, "max_parameters": None}
    return recipe.model_copy(update=update)


def kinds_of_recipe(recipe: Recipe, config: Any) -> tuple[str, ...]:
    """The kinds of layers that a recipe adapts, keys of `KINDS`; StudioError where the method fixes them."""
    own = method_named(recipe.adapter).kinds(config)
    if recipe.target_modules is None:
        return own
    if own != ("attention",):
        raise StudioError(f"{recipe.adapter} always adapts {', '.join(own)}. Leave target_modules out.")
    return recipe.target_modules


def continued_recipe(concept: TrainedConcept, changes: Mapping[str, Any]) -> Recipe:
    """The recipe to continue a concept's training: its own with another seed and with these changes.

    Raises StudioError for a change of the adapter or its size, and for a concept without a recipe.
    """
    if fixed := next((name for name in _FIXED if name in changes), None):
        raise StudioError(f"{fixed} cannot be changed when a training is continued. Leave it out.")
    if "recipe" not in concept.metadata:
        raise StudioError(
            "The concept's file has no recipe, so its training cannot be continued. Train it from the beginning."
        )
    earlier = stored_recipe(concept.metadata["recipe"])
    return Recipe(**{**earlier.model_dump(), "seed": (earlier.seed + 1) % 2**32, **changes})


def parameter_groups(
    base: Base,
    sites: Mapping[str, Site],
    adapters: Mapping[str, Adapter],
    recipe: Recipe,
    token: Mapping[str, nn.Parameter],
) -> list[dict[str, Any]]:
    """Parameter groups of the adapters by part, with that part's learning rate, and of the token, (n, d) by text
    encoder.

    The token, and parameters whose initial value is not zero, have no weight decay. With `loraplus_lr_ratio` the
    factors B have that many times the rate (Hayou et al., 2024, "LoRA+").
    """
    method, ratio = method_named(recipe.adapter), recipe.loraplus_lr_ratio or 1.0
    if ratio != 1 and not method.ups:
        raise StudioError(f"{recipe.adapter} has no factor B. Leave loraplus_lr_ratio out, or train lora.")
    rates = {"unet": recipe.unet_lr, "text_encoder": recipe.text_encoder_lr}
    usual = learning_rates(base.family, recipe.adapter)
    groups: list[dict[str, Any]] = []
    for part in base.parts:
        named = [pair for site, a in adapters.items() if sites[site].part == part for pair in a.named_parameters()]
        kind = "unet" if part == "unet" else "text_encoder"
        rate = rates[kind] or usual.get(kind, 0.0)
        for decay, kept in ((recipe.weight_decay, False), (0.0, True)):
            chosen = [(name, parameter) for name, parameter in named if (name in method.no_decay) is kept]
            ups = [parameter for name, parameter in chosen if name in method.ups and ratio != 1]
            rest = [parameter for name, parameter in chosen if name not in method.ups or ratio == 1]
            groups.append({"params": rest, "lr": rate, "weight_decay": decay, "part": part})
            groups.append({"params": ups, "lr": rate * ratio, "weight_decay": decay, "part": part})
    for vectors in token.values():
        vectors.requires_grad_(recipe.train_token)
    if recipe.train_token:
        rate = recipe.token_lr or token_rate(base.family)
        groups.append({"params": [*token.values()], "lr": rate, "weight_decay": 0.0, "part": "token"})
    return [group for group in groups if group["params"]]
