"""How strongly a concept acts: one number, or one each for UNet, text encoder and their blocks."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from concepts.errors import StudioError

Strength = float | Mapping[str, float]
"""One number for every layer, or numbers by the beginning of the layers' names, as {"unet": 0.8, "text_encoder": 0.5,
"unet.up_blocks.1": 0.2}; "" is for every layer. The longest beginning that fits a layer counts; what none fits has
strength 1. The names are those of diffusers' models, and so are the parts of its `set_adapters`.
"""


def strength_at(strength: Strength, layer: str) -> float:
    """The strength at a layer, by its name, as unet.mid_block.attentions.0…."""
    if not isinstance(strength, Mapping):
        return strength
    return strength[max(fitting, key=len)] if (fitting := [key for key in strength if _begins(layer, key)]) else 1.0


def scaled_strength(strength: Strength, factor: float) -> Strength:
    """The strength times a number, at every layer."""
    if not isinstance(strength, Mapping):
        return factor * strength
    return {"": factor, **{key: factor * value for key, value in strength.items()}}


def check_strength(parts: Mapping[str, nn.Module], strength: Strength) -> None:
    """Raises StudioError for the name of a part or block that the base does not have. `parts` are a base's, by name."""
    for key in filter(None, strength if isinstance(strength, Mapping) else ()):  # "" is for every layer
        part, _, block = key.partition(".")
        if part not in parts or not _has(parts[part], block):
            raise StudioError(
                f"The base has no component or block {key}. Give a strength for {' or '.join(parts)}, or for a "
                "block such as unet.up_blocks.1."
            )


def _begins(layer: str, key: str) -> bool:
    return not key or layer == key or layer.startswith(f"{key}.")


def _has(part: Any, block: str) -> bool:
    try:
        part.get_submodule(block)
    except AttributeError:
        return False
    return True
