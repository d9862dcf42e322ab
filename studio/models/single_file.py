"""Loads single-file checkpoints offline: the family is detected by its keys, configurations are built in."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from concepts.errors import StudioError
from studio.models.checkpoints.configurations import write_configurations
from studio.models.checkpoints.folder import is_xl
from studio.models.checkpoints.header import Header, read_header
from studio.models.checkpoints.json_files import INDEX, check_json, read_json
from studio.models.checkpoints.key_names import full_key
from studio.models.checkpoints.kinds import family_of_keys
from studio.models.checkpoints.links import as_diffusers_reads
from studio.models.checkpoints.prediction import prediction_type_of, scheduler_as_told
from studio.models.checkpoints.single_file_shapes import check_complete

_PICKLED = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_ENCODERS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}


def load_single_file(path: Path) -> Any:
    """A pipeline of Stable Diffusion 1.x, 2.x or XL from one .safetensors file with the original code's keys.

    A folder beside it of the same name, without the suffix, with a diffusers pipeline's configurations replaces the
    family's own: for a model of other sizes, or with another scheduler. The prediction type and zero terminal SNR that
    the file itself names replace both. Raises StudioError, with the reason, for anything else.
    """
    with checked_configurations(path) as (header, family, configurations):
        return _opened(path, header, configurations, family)


@contextmanager
def checked_configurations(path: Path) -> Iterator[tuple[Header, str, Path]]:
    """A file's header, its architecture (sdxl, sd21 or sd15), and, while open, the folder of its configurations.

    Raises StudioError for a file that is no whole checkpoint, or does not fit its configurations.
    """
    header = read_checkpoint_header(path)
    family = family_of_keys(path.name, header.shapes)
    beside = path.with_suffix("")
    with tempfile.TemporaryDirectory() as made:
        if not (beside / "model_index.json").is_file():
            write_configurations(family, Path(made), prediction_type_of(header))
            beside = Path(made)
        own = beside != Path(made)
        with as_diffusers_reads(beside) as configurations:
            _check_configurations(path, family, configurations)
            check_complete(path, header.shapes, configurations, own)
            yield header, family, configurations


def _check_configurations(path: Path, family: str, folder: Path) -> None:
    """Raises StudioError for a folder of configurations that cannot be read, or is of another family."""
    shown = path.with_suffix("")
    name = read_json(folder / INDEX, shown).get("_class_name")
    if not isinstance(name, str) or is_xl(name) != (family == "sdxl"):
        raise StudioError(
            f"{path.name} is {'' if family == 'sdxl' else 'not '}Stable Diffusion XL by its keys, but {INDEX} in "
            f"{shown} names {name}. Correct the configurations, or remove them."
        )
    for part in sorted(each.name for each in folder.iterdir() if each.is_dir()):
        check_json(folder, part, shown)


def _opened(path: Path, header: Header, configurations: Path, family: str) -> Any:
    try:
        pipeline = _assembled(_tensors(path), configurations, family == "sdxl")
        pipeline.scheduler = scheduler_as_told(pipeline.scheduler, header)
        return pipeline
    except StudioError:
        raise
    except Exception as error:  # the libraries raise errors of many kinds
        raise StudioError(
            f"{path.name} could not be loaded with its configurations. Correct those in {path.stem}/, or get another "
            "copy."
        ) from error


def read_checkpoint_header(path: Path) -> Header:
    """A checkpoint's header, with its keys as the original code has them. Raises StudioError for another file."""
    suffix = path.suffix.lower()
    if suffix in _PICKLED:
        raise StudioError(
            f"{path.name} is a checkpoint that can run any code when it is opened. Convert it to safetensors first."
        )
    if suffix not in (".safetensors", ".gguf"):
        raise StudioError(f"{path.name} is no checkpoint. Give a .safetensors file.")
    header = read_header(path)
    return Header({full_key(key): shape for key, shape in header.shapes.items()}, header.metadata)


def _tensors(path: Path) -> dict[str, Tensor]:
    return {full_key(key): tensor for key, tensor in load_file(path).items()}


def _assembled(tensors: Any, configurations: Path, xl: bool) -> Any:
    """A pipeline of a checkpoint's tensors by key, float32. `configurations` is a diffusers folder without weights."""
    options: dict[str, Any] = {"config": str(configurations), "local_files_only": True, "torch_dtype": torch.float32}
    index = read_json(configurations / INDEX, configurations)
    scheduler: Any = getattr(diffusers, index["scheduler"][1])
    parts: dict[str, Any] = {"scheduler": scheduler.from_pretrained(configurations, subfolder="scheduler")}
    for name, kind in _ENCODERS.items() if xl else [("text_encoder", CLIPTextModel)]:
        tokenizer = name.replace("text_encoder", "tokenizer")
        parts[tokenizer] = CLIPTokenizer.from_pretrained(configurations, subfolder=tokenizer)
        parts[name] = create_diffusers_clip_model_from_ldm(kind, subfolder=name, checkpoint=tensors, **options)
    parts["unet"] = UNet2DConditionModel.from_single_file(tensors, subfolder="unet", **options)
    parts["vae"] = AutoencoderKL.from_single_file(tensors, subfolder="vae", **options)
    if xl:
        zeros = index.get("force_zeros_for_empty_prompt", True)
        return StableDiffusionXLPipeline(**parts, force_zeros_for_empty_prompt=zeros)
    absent: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
    return StableDiffusionPipeline(**parts, **absent, requires_safety_checker=False)
