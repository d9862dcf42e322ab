"""The published configurations of the families, built in: for checkpoints that come without any."""

import gzip
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler
from transformers import CLIPTokenizer

from studio.models.architectures import architecture_parts

_NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def write_configurations(family: str, folder: Path, prediction_type: str | None = None) -> None:
    """The configurations, and the tokenizer, of a family's published model as a diffusers folder without weights.

    A model of 2.x that predicts the noise ("epsilon") is its base of 512 pixels; the others have 768.
    """
    parts = architecture_parts(family)
    classes: dict[str, list[str]] = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    for name, part in parts.items():
        model: Any = part
        if name == "unet":
            if family == "sd21" and prediction_type == "epsilon":
                model.register_to_config(sample_size=64)
            model.save_config(folder / name)
        else:
            model.config.save_pretrained(folder / name)
            classes[name] = ["transformers", type(model).__name__]
            tokenizer = name.replace("text_encoder", "tokenizer")
            clip_tokenizer("!" if is_open_clip(model) else "<|endoftext|>").save_pretrained(folder / tokenizer)
            classes[tokenizer] = ["transformers", "CLIPTokenizer"]
    _autoencoder(family).save_config(folder / "vae")
    scheduler = scheduler_of(family)
    scheduler.save_config(folder / "scheduler")
    classes["scheduler"] = ["diffusers", type(scheduler).__name__]
    pipeline = "StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline"
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline, **classes}))


def is_open_clip(text_encoder: Any) -> bool:
    """Whether a text encoder is OpenCLIP's, whose published tokenizers pad with 0 and which has the exact GELU."""
    return text_encoder.config.hidden_act == "gelu"


def _autoencoder(family: str) -> AutoencoderKL:
    options: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "sample_size": 1024 if family == "sdxl" else 512,
        "scaling_factor": 0.13025 if family == "sdxl" else 0.18215,
    }
    with torch.device("meta"):
        return AutoencoderKL(**options)


def scheduler_of(family: str) -> Any:
    """The scheduler of the published model: 2.1 predicts the velocity, the others the noise."""
    if family == "sdxl":
        return EulerDiscreteScheduler(**_NOISE)
    prediction = "v_prediction" if family == "sd21" else "epsilon"
    return DDIMScheduler(**_NOISE, clip_sample=False, set_alpha_to_one=False, prediction_type=prediction)


def clip_tokenizer(padding: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's tokenizer, from the merges in open_clip's package."""
    from open_clip import tokenizer as open_clip_tokenizer

    lines = gzip.decompress(Path(open_clip_tokenizer.default_bpe()).read_bytes()).decode().split("\n")
    pairs = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 1]]
    letters = list(open_clip_tokenizer.bytes_to_unicode().values())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in pairs)]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    options: dict[str, Any] = {"vocab": vocabulary, "merges": pairs, "pad_token": padding, "model_max_length": 77}
    return CLIPTokenizer(**options)
