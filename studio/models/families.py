"""Families of Stable Diffusion: their names in files' metadata, kohya's key prefixes, and what is usual for each.

The values of `sampling` are diffusers' defaults of each family's pipeline class (StableDiffusionPipeline and
StableDiffusionXLPipeline 0.42: num_inference_steps, guidance_scale, guidance_rescale, num_images_per_prompt). The
scorer is the CLIP model by which CLIP-I and CLIP-T are published (Gal et al., 2022; Ruiz et al., 2023). Licences are
those of the published weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Family:
    """A family of models with compatible files: its title, its names in files' metadata (sd-scripts' and modelspec's),
    kohya's key prefix of each part; and its defaults: the sampling settings that differ from toybox's, the scorer (as
    in studio.metrics.clip.load_scorer), and the licence of its published weights.
    """

    title: str
    kohya_version: str
    architecture: str
    prefixes: Mapping[str, str]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    scorer: str = "toybox-clip"
    licence: str | None = None


_ONE_ENCODER = {"unet": "lora_unet", "text_encoder": "lora_te"}
_TWO_ENCODERS = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
_SD: dict[str, Any] = {
    "num_inference_steps": 50, "guidance_scale": 7.5, "guidance_rescale": 0.0, "batch_size": 1,
}  # fmt: skip
_CLIP = "ViT-B-32/openai"
_RAIL, _RAIL_PLUS = "CreativeML Open RAIL-M", "CreativeML Open RAIL++-M"

SD15 = Family("Stable Diffusion 1.x", "sd_v1", "stable-diffusion-v1", _ONE_ENCODER, _SD, _CLIP, _RAIL)
SD21 = Family("Stable Diffusion 2.x", "sd_v2", "stable-diffusion-v2", _ONE_ENCODER, _SD, _CLIP, _RAIL_PLUS)
SDXL = Family(
    "Stable Diffusion XL", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base", _TWO_ENCODERS,
    {**_SD, "guidance_scale": 5.0}, _CLIP, _RAIL_PLUS,
)  # fmt: skip
OTHER = Family("another size of Stable Diffusion", "other", "stable-diffusion-other", _ONE_ENCODER)
"""Toybox, and other models of its kind. Its defaults are those of the options themselves."""

FAMILIES = (SD15, SD21, SDXL, OTHER)

_BY_WIDTH = {768: SD15, 1024: SD21, 2048: SDXL}


def family_of(parts: Mapping[str, nn.Module]) -> Family:
    """The family by the model's parts: SDXL has two text encoders, the others differ in the context's width."""
    config: Any = parts["unet"].config
    return family_of_sizes("text_encoder_2" in parts, config.cross_attention_dim)


def family_of_sizes(two_encoders: bool, context_width: object) -> Family:
    """The family of a model with two text encoders, or with one and cross-attention to vectors of this width."""
    if two_encoders:
        return SDXL
    found = family_of_width(context_width) if isinstance(context_width, int) else None
    return OTHER if found in (None, SDXL) else found


def family_of_width(width: int) -> Family | None:
    """The published family whose cross-attention reads contexts of this width; None for other widths."""
    return _BY_WIDTH.get(width)


def licence_note(family: Family) -> str | None:
    """What the licence of a family's weights asks of whoever passes on what was made from them; None without one."""
    if family.licence is None:
        return None
    return (
        f"The published weights of {family.title} are under the licence {family.licence}. Whoever passes on something "
        "made from them, such as a concept, has to pass on its restrictions of use; your checkpoint may have further "
        "terms."
    )
