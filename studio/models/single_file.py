"""Loads single-file checkpoints offline: the family is detected by its keys, configurations are built in."""

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.loaders.single_file_utils import SingleFileComponentError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import CLIPTokenizer

from concepts.errors import StudioError
from studio.models.architectures import architecture_parts

_FAMILY_KEYS = {
    "conditioner.embedders.1.model.ln_final.weight": "sdxl",
    "cond_stage_model.model.ln_final.weight": "sd21",
    "cond_stage_model.transformer.text_model.final_layer_norm.weight": "sd15",
}
_NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def load_single_file(path: Path) -> Any:
    """A pipeline of Stable Diffusion 1.x, 2.x or XL from one .safetensors file with the original code's keys.

    A folder beside it of the same name, without the suffix, with a diffusers pipeline's configurations replaces the
    family's own: for a model of other sizes, or with another scheduler. Raises StudioError for anything else.
    """
    family = _family(path)
    pipeline_class = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    beside = path.with_suffix("")
    with tempfile.TemporaryDirectory() as made:
        if not (beside / "model_index.json").is_file():
            write_configurations(family, Path(made))
            beside = Path(made)
        return _opened(pipeline_class, path, beside)


def _opened(pipeline_class: Any, path: Path, configurations: Path) -> Any:
    options: dict[str, Any] = {} if pipeline_class is StableDiffusionXLPipeline else {"safety_checker": None}
    try:
        pipeline = pipeline_class.from_single_file(
            str(path), config=str(configurations), local_files_only=True, torch_dtype=torch.float32, **options
        )
        parts = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
        if any(parameter.is_meta for part in parts for parameter in part.parameters()):
            raise ValueError("a tensor is missing")
    except (OSError, ValueError, KeyError, RuntimeError, SingleFileComponentError) as error:
        raise StudioError(f"{path.name} is not a complete Stable Diffusion checkpoint. Get another copy.") from error
    return pipeline


def _family(path: Path) -> str:
    if path.suffix != ".safetensors":
        raise StudioError(
            f"{path.name} is a checkpoint that can run any code when it is opened. Convert it to safetensors first."
        )
    try:
        with safe_open(path, "pt") as file:
            keys = set(file.keys())
    except (SafetensorError, OSError) as error:
        raise StudioError(f"{path.name} is truncated, or not a safetensors file. Get another copy.") from error
    family = next((family for key, family in _FAMILY_KEYS.items() if key in keys), None)
    if family is None:
        raise StudioError(
            f"{path.name} has no text encoder of Stable Diffusion 1.x, 2.x or XL. Give a complete checkpoint "
            "of one of these."
        )
    return family


def write_configurations(family: str, folder: Path) -> None:
    """The configurations, and the tokenizer, of a family's published model as a diffusers folder without weights."""
    parts = architecture_parts(family)
    classes: dict[str, list[str]] = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    for name, part in parts.items():
        model: Any = part
        if name == "unet":
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
