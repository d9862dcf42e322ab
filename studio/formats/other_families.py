"""Says what a file is for that does not fit a base: another family, another kind of file, or an unknown layout."""

import json
import re
from collections.abc import Collection, Iterable, Mapping

from torch import Tensor

from concepts.errors import StudioError
from studio.formats.adapter_keys import SUPPORTED, is_adapter_key, split_key
from studio.formats.safe_reading import shortened
from studio.models.checkpoints.header import other_format
from studio.models.families import FAMILIES, SDXL, Family, family_of_width

_BLOCKS = r"^(lora_unet_|lycoris_|(lora_)?transformer_|diffusion_model_)?transformer_blocks_\d+_"
_SIGNS = (
    ("Stable Cascade", r"lora_prior_(unet|te)_"),
    ("AnimateDiff", r"motion_modules_|temporal_transformer"),
    ("ControlNet", r"controlnet|input_hint_block|zero_convs"),
    ("Chroma", r"distilled_guidance_layer"),
    ("Qwen-Image", r"transformer_blocks_\d+_(img|txt)_(mlp|mod)_"),
    ("HunyuanVideo", r"individual_token_refiner"),
    ("Flux", r"single_transformer_blocks_|double_blocks_\d+_|single_blocks_\d+_"),
    ("Stable Diffusion 3", r"joint_(transformer_)?blocks_|lora_te3_|text_encoder_3_|attn_add_[qkv]_proj"),
    ("Stable Diffusion 3 or Flux", _BLOCKS + r"attn_to_(q|k|v|out)|t5xxl"),
    ("Z-Image", r"layers_\d+_attention_to_(q|k|v|out)|(noise|context)_refiner_\d+_attention_to_"),
    ("Lumina", r"layers_\d+_attention_(qkv|out|wq|wk|wv|wo)|(noise|context)_refiner_"),
    ("Wan", r"blocks_\d+_(self|cross)_attn_(q|k|v|o|k_img|v_img)_(lora|diff|alpha)"),
    ("Hunyuan-DiT", r"blocks_\d+_attn[12]_(Wqkv|kv_proj|q_proj)"),
    ("PixArt or LTX-Video", _BLOCKS + r"attn[12]_|adaln_single"),
    ("a language model", r"(^|_)model_layers_\d+_(self_attn|mlp)_"),
    (SDXL.title, r"lora_te2_|text_encoder_2_|clip_g_|add_embedding_|label_emb_"),
    (SDXL.title, r"(attentions|blocks)_\d+(_\d+)?_transformer_blocks_[1-9]"),  # SD 1.x and 2.x have one in each
)
"""Other families by a part of a layer's name, with underscores for dots; the first that is found counts."""
_UNET_OR_CLIP = re.compile(
    r"(down|up)_blocks_\d+_(resnets|attentions|downsamplers|upsamplers)_|mid_block_|(input|output)_blocks_\d+_\d+_"
    r"|middle_block_\d+_|conv_in$|conv_out$|time_embed|encoder_layers_\d+_|text_projection"
)
_CHECKPOINT = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.embedders.")
_LONGEST_TOKEN = 80
_BASE_PARTS = (
    ("a ControlNet", r"controlnet_cond_embedding\.|controlnet_down_blocks\."),
    ("a UNet", r"(down_blocks|mid_block|up_blocks)\.|time_embedding\."),
    ("an autoencoder (VAE)", r"(encoder|decoder)\.(conv_in|down_blocks|mid_block|up_blocks|down|up|mid)\."),
    ("a text encoder", r"(text_model\.)?(encoder\.layers|embeddings)\."),
)
"""The parts of a base in diffusers' layout, by the beginning of a key; the first that is found counts."""
_EMBEDDING = re.compile(
    r"emb_params|emb_params_out|string_to_param(\.\*)?|clip_[lgh]|text_encoders_[01]|t5(xxl)?|<[^<>]*>"
)


def refuse_other_kinds(name: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise StudioError where a file is empty, an embedding or a checkpoint instead of an adapter."""
    if not tensors:
        raise StudioError(f"{name} has no adapted layers. Give a file of an adapter.")
    if is_embedding(tensors):
        raise StudioError(
            f"{name} is a textual inversion, an embedding of a token. Give its file alone, or with --tokens beside the "
            "file of its LoRA."
        )
    if part := part_of_base(tensors):
        raise StudioError(f"{name} is {part}, a part of a base. Give the base's folder with --base.")
    if any(key.startswith(_CHECKPOINT) for key in tensors) and not any(map(is_adapter_key, tensors)):
        raise StudioError(f"{name} is a checkpoint, not a file of an adapter. Give it with --base.")


def is_embedding(tensors: Iterable[str]) -> bool:
    """Whether the keys are those of a textual inversion; diffusers' only key is the token, which may be any word."""
    keys = list(tensors)
    if any(map(is_adapter_key, keys)):
        return False
    return any(_EMBEDDING.fullmatch(key) for key in keys) or (
        len(keys) == 1 and 0 < len(keys[0]) <= _LONGEST_TOKEN and "." not in keys[0]
    )


def part_of_base(tensors: Collection[str]) -> str | None:
    """Which part of a base in diffusers' layout has these keys, such as "a UNet"; None where they are of no part."""
    if any(map(is_adapter_key, tensors)):
        return None
    keys = [key for key in tensors if key.endswith((".weight", ".bias"))]
    return next((part for part, sign in _BASE_PARTS if any(re.match(sign, key) for key in keys)), None)


def not_a_concept(name: str, data: bytes) -> str | None:
    """What a file's bytes are instead of a concept's, and what to do with it; None where they are of no known kind."""
    if said := other_format(data[:64]):
        return f"{name} {said}."
    try:
        keys = [key for key in json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]) if key != "__metadata__"]
    except (ValueError, TypeError, RecursionError):
        return None
    if any(map(is_adapter_key, keys)) or is_embedding(keys):
        what = "a LoRA" if any(map(is_adapter_key, keys)) else "a textual inversion"
        return f"{name} is {what} of another tool. Add it to the library first: studio import {name} --name NAME."
    if any(key.startswith(_CHECKPOINT) for key in keys):
        return f"{name} is a checkpoint, not the file of a concept. Give it with --base."
    part = part_of_base(keys)
    return part and f"{name} is {part}, a part of a base, not a concept. Give the base's folder with --base."


def refuse_family(layers: Mapping[str, Tensor], unknown: Iterable[str], family: Family) -> None:
    """Raise StudioError where a file is another family's: by its `unknown` keys, of layers that the base lacks, or by
    the input width of cross-attention, which alone tells Stable Diffusion 1.x, 2.x and XL apart by the same names.
    """
    flat = [key.replace(".", "_") for key in unknown]
    titles = [title for title, sign in _SIGNS if any(re.search(sign, key) for key in flat)]
    if family is SDXL and any(key.startswith("lora_te_") for key in flat):
        titles.append("a model with one text encoder")
    titles += [found.title for key, tensor in layers.items() if (found := _family_by_width(key, tensor))]
    if titles and titles[0] != family.title:
        raise other_family(titles[0], family)


def _family_by_width(key: str, tensor: Tensor) -> Family | None:
    """The family by the input width of a cross-attention layer's down factor (r, in) or difference (out, in)."""
    path, known = split_key(key)
    context = re.search(r"attn2[._]to_[kv]$", path) and known in (("lora", "down"), ("difference", "weight"))
    return family_of_width(tensor.shape[1]) if context and tensor.ndim > 1 else None


def other_family(title: str, family: Family) -> StudioError:
    """The error of a file for the family of this title."""
    known = title in {each.title for each in FAMILIES} or title.startswith("a model with")
    advice = "Give a base of that family with --base." if known else "Give a file that was made for this base."
    return StudioError(f"The file is for {title}, and this base is {family.title}. {advice}")


def unknown_key(name: str, key: str, base_has: bool, family: Family) -> StudioError:
    """The error of a key that names no layer of the base, or, where `base_has` its layer, no known tensor of it."""
    path, known = split_key(key)
    if (base_has and known is None) or ".lora_embedding_" in key:
        return StudioError(f"The adapter type of {shortened(key)} is not supported. {SUPPORTED}")
    if known is not None and _UNET_OR_CLIP.search(path.replace(".", "_")):
        return StudioError(
            f"This base, {family.title}, has no layer {shortened(path)}, which the file adapts. Give the base that it "
            "was made for with --base."
        )
    return StudioError(
        f"{name} has an unknown layout, its keys look like {shortened(key)}. Convert it to the layout of kohya, "
        "diffusers or PEFT first."
    )
