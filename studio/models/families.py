"""Families of Stable Diffusion: their names in files' metadata, and kohya's key prefixes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Family:
    """A family of models with compatible files: its title, its names in files' metadata (sd-scripts' and modelspec's),
    and kohya's key prefix of each part.
    """

    title: str
    kohya_version: str
    architecture: str
    prefixes: Mapping[str, str]


_ONE_ENCODER = {"unet": "lora_unet", "text_encoder": "lora_te"}
_TWO_ENCODERS = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}

SD15 = Family("Stable Diffusion 1.x", "sd_v1", "stable-diffusion-v1", _ONE_ENCODER)
SD21 = Family("Stable Diffusion 2.x", "sd_v2", "stable-diffusion-v2", _ONE_ENCODER)
SDXL = Family("Stable Diffusion XL", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base", _TWO_ENCODERS)
OTHER = Family("another size of Stable Diffusion", "other", "stable-diffusion-other", _ONE_ENCODER)

FAMILIES = (SD15, SD21, SDXL, OTHER)

_BY_WIDTH = {768: SD15, 1024: SD21, 2048: SDXL}


def family_of(parts: Mapping[str, nn.Module]) -> Family:
    """The family by the model's parts: SDXL has two text encoders, the others differ in the context's width."""
    if "text_encoder_2" in parts:
        return SDXL
    config: Any = parts["unet"].config
    found = family_of_width(config.cross_attention_dim)
    return OTHER if found in (None, SDXL) else found


def family_of_width(width: int) -> Family | None:
    """The published family whose cross-attention reads contexts of this width; None for other widths."""
    return _BY_WIDTH.get(width)
