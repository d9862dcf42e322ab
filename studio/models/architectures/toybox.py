"""The bundled base."""

import json

from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from studio.bundled import TOYBOX


def toybox() -> dict[str, nn.Module]:
    """Toybox, by the configurations beside its weights."""
    unet, text_encoder = (json.loads((TOYBOX / part / "config.json").read_text()) for part in ("unet", "text_encoder"))
    built = UNet2DConditionModel.from_config(unet)
    assert isinstance(built, UNet2DConditionModel)
    return {"unet": built, "text_encoder": CLIPTextModel(CLIPTextConfig(**text_encoder))}
