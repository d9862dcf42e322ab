"""Converts a pipeline's tensors to the keys of a single-file checkpoint (original code, A1111, ComfyUI)."""

import re
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
_PROJECTION = re.compile(r"(.*)\.self_attn\.q_proj\.(weight|bias)$")


def original_tensors(pipeline: Any) -> dict[str, Tensor]:
    """All of a pipeline's tensors by their keys in a single-file checkpoint."""
    tensors = {f"model.diffusion_model.{key}": t for key, t in _unet(pipeline.unet).items()}
    tensors |= {f"first_stage_model.{key}": tensor for key, tensor in _vae(pipeline.vae).items()}
    if hasattr(pipeline, "text_encoder_2"):
        tensors |= {f"conditioner.embedders.0.transformer.{k}": t for k, t in _clip(pipeline.text_encoder).items()}
        return tensors | {
            f"conditioner.embedders.1.model.{k}": t for k, t in _open_clip(pipeline.text_encoder_2).items()
        }
    if is_open_clip(pipeline.text_encoder):
        return tensors | {f"cond_stage_model.model.{k}": t for k, t in _open_clip(pipeline.text_encoder).items()}
    return tensors | {f"cond_stage_model.transformer.{k}": t for k, t in _clip(pipeline.text_encoder).items()}


def _unet(unet: nn.Module) -> dict[str, Tensor]:
    state = unet.state_dict()
    names = original_paths({key.rpartition(".")[0] for key in state})
    return {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": tensor for key, tensor in state.items()}


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


def _clip(text_encoder: nn.Module) -> dict[str, Tensor]:
    return {
        key if key.startswith("text_model.") else f"text_model.{key}": tensor
        for key, tensor in text_encoder.state_dict().items()
    }


def _open_clip(text_encoder: nn.Module) -> dict[str, Tensor]:
    """OpenCLIP's names, with query, key and value in one matrix and the projection transposed."""
    state, tensors = text_encoder.state_dict(), {}
    for key, tensor in state.items():
        if key == "text_projection.weight":
            tensors["text_projection"] = tensor.T
        elif match := _PROJECTION.match(key):
            parts = [state[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            tensors[f"{_renamed(match[1])}.attn.in_proj_{match[2]}"] = torch.cat(parts)
        elif ".k_proj." not in key and ".v_proj." not in key:
            tensors[_renamed(key)] = tensor
    return tensors


def _renamed(key: str) -> str:
    for ours, theirs in _OPEN_CLIP:
        key = key.replace(ours, theirs)
    return key
