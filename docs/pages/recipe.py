"""The page of all training options, from the recipe's model."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from docs.pages.markdown import code, escaped, page, paragraphs, table, type_name
from studio.models.families import FAMILIES, OTHER
from training.config.family_presets import RECIPES, presets_of
from training.config.loss_fields import Loss
from training.config.recipe import Recipe
from training.config.recipe_fields import AdapterOptions, Optimization, Pictures, Tokens, Validation

GROUPS = (AdapterOptions, Optimization, Loss, Pictures, Tokens, Validation)
_BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}
INTRODUCTION = """\
A recipe is the configuration of one training (`training.config.recipe.Recipe`). `studio recipe` prints it as a TOML
file for `studio train --recipe FILE`; `studio train --set OPTION=VALUE` sets one option, and a list is written as JSON.
An unknown option, an invalid value and options that exclude each other are errors before training begins. An empty
default means that the option is unset. A group of layers in `target_modules` is not a module name as in PEFT."""


def page_text() -> str:
    """The whole page."""
    return page(
        "Recipe",
        INTRODUCTION,
        *(block for group in GROUPS for block in _group(group)),
        "## Families",
        "What is unset has these values on other bases than toybox ([sources](../how-to/presets.md)):",
        table(("family", "options"), ((title, _options(values)) for title, values in RECIPES.items() if values)),
        "## Presets",
        "Presets are offered by the web UI, not by the command line (`training.config.family_presets.presets_of`):",
        table(
            ("family", "preset", "options"),
            (
                ("toybox" if family is OTHER else family.title, code(name), _options(values))
                for family in FAMILIES
                for name, values in presets_of(family).items()
            ),
        ),
    )


def _group(group: type[Any]) -> Iterator[str]:
    name = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in group.__name__).strip()
    yield f"## {name.capitalize()}"
    yield escaped(paragraphs(group.__doc__)[0])
    rows = (_row(key, field) for key, field in Recipe.model_fields.items() if key in group.__annotations__)
    yield table(("option", "value", "default", "meaning"), rows)


def _row(key: str, field: FieldInfo) -> tuple[str, str, str, str]:
    default = field.get_default()
    shown = "" if default is None else code(_toml(default))
    return code(key), escaped(_value(field)), shown, escaped(field.description or "")


def _toml(value: Any) -> str:
    """A value as `studio recipe` prints it; text without its quotation marks."""
    return value if isinstance(value, str) else json.dumps(list(value) if isinstance(value, tuple) else value)


def _value(field: FieldInfo) -> str:
    """The type of an option and its bounds."""
    bounds = [
        limit.format(getattr(part, name))
        for part in field.metadata
        for name, limit in _BOUNDS.items()
        if getattr(part, name, None) is not None
    ]
    return ", ".join([type_name(field.annotation), *bounds])


def _options(values: Mapping[str, Any]) -> str:
    return ", ".join(code(f"{key} = {_toml(value)}") for key, value in values.items())
