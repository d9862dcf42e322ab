"""Converts a pipeline's tensors to the keys of a single-file checkpoint (original code, A1111, ComfyUI)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from studio.formats.layer_names import original_paths
from studio.models.checkpoints.configurations import is_open_clip

_VAE = (
    (re.compile(r"^(encoder|decoder)\.mid_block\.resnets\.(\d)\."), lambda m: f"{m[1]}.mid.block_{int(m[2]) + 1}."),
    (re.compile(r"^(encoder|decoder)\.mid_block\.attentions\.0\."), lambda m: f"{m[1]}.mid.attn_1."),
    (re.compile(r"\.resnets\.(\d+)\."), lambda m: f".block.{m[1]}."),
    (re.compile(r"\.downsamplers\.0\."), lambda m: ".downsample."),
    (re.compile(r"\.upsamplers\.0\."), lambda m: ".upsample."),
    (re.compile(r"^encoder\.down_blocks\."), lambda m: "encoder.down."),
    (re.compile(r"\.conv_shortcut\."), lambda m: ".nin_shortcut."),
    (re.compile(r"\.conv_norm_out\."), lambda m: ".norm_out."),
    (re.compile(r"\.attn_1\.group_norm\."), lambda m: ".attn_1.norm."),
    (re.compile(r"\.attn_1\.to_([qkv])\."), lambda m: f".attn_1.{m[1]}."),
    (re.compile(r"\.attn_1\.to_out\.0\."), lambda m: ".attn_1.proj_out."),
)
_OPEN_CLIP = (
    ("text_model.", ""),
    ("embeddings.token_embedding", "token_embedding"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("encoder.layers.", "transformer.resblocks."),
    ("self_attn.out_proj", "attn.out_proj"),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("final_layer_norm", "ln_final"),
)
_PROJECTION = re.compile(r"(.*)\.self_attn\.([qkv])_proj\.(weight|bias)$")


@dataclass(frozen=True)
class StoredTensor:
    """Where a single file has a part's tensor: its key, which third of the rows it is (None: all), and whether it is
    transposed.
    """

    key: str
    third: int | None = None
    transposed: bool = False

    def of(self, stored: Tensor) -> Tensor:
        """The part's tensor, from the one that is stored."""
        rows = stored if self.third is None else stored.chunk(3)[self.third]
        return rows.T if self.transposed else rows


def original_tensors(pipeline: Any) -> dict[str, Tensor]:
    """All of a pipeline's tensors by their keys in a single-file checkpoint."""
    tensors = {f"first_stage_model.{key}": tensor for key, tensor in _vae(pipeline.vae).items()}
    for part, places in stored_tensors(pipeline).items():
        tensors |= _joined(getattr(pipeline, part).state_dict(), places)
    return tensors


def _joined(state: Mapping[str, Tensor], places: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    pieces: dict[str, dict[int, Tensor]] = {}
    for key, tensor in state.items():
        place = places[key]
        pieces.setdefault(place.key, {})[place.third or 0] = tensor.T if place.transposed else tensor
    return {key: torch.cat([own[i] for i in sorted(own)]) if len(own) > 1 else own[0] for key, own in pieces.items()}


def stored_tensors(pipeline: Any) -> dict[str, dict[str, StoredTensor]]:
    """Where a single-file checkpoint has each tensor of the UNet and the text encoders, by part and key."""
    places = {"unet": _unet(pipeline.unet)}
    if hasattr(pipeline, "text_encoder_2"):
        places["text_encoder"] = _clip(pipeline.text_encoder, "conditioner.embedders.0.transformer.")
        places["text_encoder_2"] = _open_clip(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    elif is_open_clip(pipeline.text_encoder):
        places["text_encoder"] = _open_clip(pipeline.text_encoder, "cond_stage_model.model.")
    else:
        places["text_encoder"] = _clip(pipeline.text_encoder, "cond_stage_model.transformer.")
    return places


def _unet(unet: nn.Module) -> dict[str, StoredTensor]:
    keys = list(unet.state_dict())
    names = original_paths({key.rpartition(".")[0] for key in keys})
    split = {key: key.rpartition(".") for key in keys}
    return {k: StoredTensor(f"model.diffusion_model.{names[path]}.{last}") for k, (path, _, last) in split.items()}


def _clip(text_encoder: nn.Module, prefix: str) -> dict[str, StoredTensor]:
    return {
        key: StoredTensor(f"{prefix}{key}" if key.startswith("text_model.") else f"{prefix}text_model.{key}")
        for key in text_encoder.state_dict()
    }


def _open_clip(text_encoder: nn.Module, prefix: str) -> dict[str, StoredTensor]:
    """OpenCLIP's names, with query, key and value in one matrix and the projection transposed."""
    places = {}
    for key in text_encoder.state_dict():
        if key == "text_projection.weight":
            places[key] = StoredTensor(f"{prefix}text_projection", transposed=True)
        elif match := _PROJECTION.match(key):
            joined = f"{prefix}{_renamed(match[1])}.attn.in_proj_{match[3]}"
            places[key] = StoredTensor(joined, third="qkv".index(match[2]))
        else:
            places[key] = StoredTensor(f"{prefix}{_renamed(key)}")
    return places


def _vae(vae: nn.Module) -> dict[str, Tensor]:
    config: Any = vae.config
    last = len(config.block_out_channels) - 1
    tensors = {}
    for key, tensor in vae.state_dict().items():
        name = re.sub(r"^decoder\.up_blocks\.(\d+)\.", lambda match: f"decoder.up.{last - int(match[1])}.", key)
        for pattern, write in _VAE:
            name = pattern.sub(write, name)
        convolution = ".attn_1." in name and ".norm." not in name and tensor.ndim == 2
        tensors[name] = tensor[:, :, None, None] if convolution else tensor
    return tensors


def _renamed(key: str) -> str:
    for ours, theirs in _OPEN_CLIP:
        key = key.replace(ours, theirs)
    return key
