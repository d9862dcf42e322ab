"""Which family of Stable Diffusion a single-file checkpoint belongs to, by its keys; and what other files are."""

import re
from collections.abc import Mapping, Sequence

from concepts.errors import StudioError

UNET = "model.diffusion_model."
VAE = "first_stage_model."
FAMILY_KEYS = {
    "conditioner.embedders.1.model.ln_final.weight": "sdxl",
    "cond_stage_model.model.ln_final.weight": "sd21",
    "cond_stage_model.transformer.text_model.final_layer_norm.weight": "sd15",
}
"""A key of the text encoder by which each family is known: that of its last layer norm."""
_COMPLETE = "Give a complete checkpoint of Stable Diffusion 1.x, 2.x or XL."
_FORMULATIONS = ((r"^edm_(mean|std)$|^edm_vpred\.", "was trained in the EDM formulation, which is not supported."),)
_OTHERS = (
    *_FORMULATIONS,
    (r"lora_(up|down|A|B|unet|te)|hada_w1|lokr_w1|oft_(diag|blocks)",
     "is a LoRA, not a base. Add it with studio import FILE --name NAME."),
    (r"(^|\.)double_blocks\.", "is a FLUX model, which is not supported."),
    (r"(^|\.)joint_blocks\.", "is a Stable Diffusion 3 model, which is not supported."),
    (r"(^|\.)double_layers\.", "is an AuraFlow model, which is not supported."),
    (r"clip_txt_mapper|clip_txt_pooled_mapper", "is a Stable Cascade model, which is not supported."),
    (r"mlp_t5|pooler\.yt_embedder|\.default_modulation\.", "is a HunyuanDiT model, which is not supported."),
    (r"adaln_single|(^|\.)t_block\.|y_embedder\.y_embedding", "is a PixArt or video model, which is not supported."),
    (r"cap_embedder\.", "is a Lumina model, which is not supported."),
    (r"time_stack|time_mixer|motion_modules|temporal_transformer|patch_embedding\.",
     "is a video model, which is not supported."),
    (r"^control_model\.|controlnet_cond_embedding|zero_convs|input_hint_block",
     "is a ControlNet, not a base. Give it with --control-model."),
    (r"^(down_blocks|up_blocks|mid_block|text_model)\.|^(encoder|decoder)\.(down_blocks|up_blocks|mid_block)\.",
     "is one part of a diffusers folder. Give the whole folder."),
    (r"^(emb_params|string_to_param|clip_[lg])",
     "is an embedding, not a base. Add it with studio import FILE --name NAME."),
)  # fmt: skip
"""Patterns of keys of files that are no base, with what they are."""


def family_of_keys(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The architecture (sdxl, sd21 or sd15) of a checkpoint's keys; `name` is the file's, for errors.

    Raises StudioError, with what the file is instead, for anything but a whole text-to-image checkpoint.
    """
    if not shapes:
        raise StudioError(f"{name} holds no tensors. {_COMPLETE}")
    family = next((family for key, family in FAMILY_KEYS.items() if key in shapes), None)
    held = {
        "UNet": any(key.startswith(UNET) for key in shapes),
        "text encoder": family is not None,
        "autoencoder (VAE)": any(key.startswith(VAE) for key in shapes),
    }
    # A whole checkpoint may hold more, such as another model's keys; the formulation of its noise counts
    refuse_others(name, shapes, _OTHERS if not all(held.values()) else _FORMULATIONS)
    if family is None and "conditioner.embedders.0.model.ln_final.weight" in shapes:
        raise StudioError(f"{name} is the refiner of Stable Diffusion XL, which has one text encoder. Give the base.")
    if not any(held.values()):
        raise StudioError(f"{name} is no checkpoint of Stable Diffusion: its keys look like {min(shapes)}. {_COMPLETE}")
    if family is None or not all(held.values()):
        raise StudioError(f"{name} has no {' and no '.join(part for part in held if not held[part])}. {_COMPLETE}")
    given, predicted = (shapes.get(f"{UNET}{key}.weight", ()) for key in ("input_blocks.0.0", "out.2"))
    if len(given) == len(predicted) == 4:
        refuse_other_inputs(name, given[1], predicted[0])
    return family


def refuse_others(name: str, keys: Mapping[str, object], others: Sequence[tuple[str, str]]) -> None:
    """Raises StudioError for a file with keys of another kind of model: of a pattern of `others`, with what it is."""
    for pattern, said in others:
        if any(re.search(pattern, key) for key in keys):
            raise StudioError(f"{name} {said}{'' if '. ' in said else ' ' + _COMPLETE}")


def refuse_other_inputs(name: str, channels: int, predicted: int) -> None:
    """Raises StudioError for a UNet with more input channels than the `predicted` ones, those of the latents."""
    kinds = {
        predicted + 1: "is an inpainting model, whose UNet also takes a mask and the masked image's latents",
        predicted: "is an InstructPix2Pix model, whose UNet also takes the latents of an image",
        3: "is an upscaler, whose UNet also takes a small image",
        1: "is a depth-to-image model, whose UNet also takes a depth map",
    }
    if channels > predicted:
        more = channels - predicted
        said = kinds.get(more, f"has a UNet that takes {more} channels beside the latents")
        raise StudioError(f"{name} {said}. Give the text-to-image model.")
