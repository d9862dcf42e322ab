"""Diffusers folders, checked before they are loaded: the pipeline's class, its parts, and their files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from concepts.errors import StudioError
from studio.models.checkpoints.completeness import MODELS, check_part
from studio.models.checkpoints.header import Header, read_header
from studio.models.checkpoints.json_files import HINT, INDEX, check_json, read_json
from studio.models.checkpoints.kinds import refuse_other_inputs
from studio.models.checkpoints.links import WEIGHTS

_SUPPORTED = re.compile(r"(StableDiffusion(XL)?(?!\d)|LatentConsistencyModel)\w*Pipeline")


def check_folder(folder: Path, shown: Path) -> bool:
    """Whether a folder, as `as_diffusers_reads` gives it, is Stable Diffusion XL.

    Raises StudioError, with the reason and the folder as `shown`, for one that is no text-to-image pipeline of Stable
    Diffusion 1.x, 2.x or XL, or lacks a part.
    """
    xl, parts = pipeline_of(folder, shown)
    if missing := [part for part in parts if not (folder / part).is_dir()]:
        raise StudioError(f"{shown} has no folder {' and no folder '.join(missing)}. {HINT}")
    for part in parts:
        check_json(folder, part, shown)
        if part in MODELS:
            _check_weights(folder, part, shown)
    return xl


def pipeline_of(folder: Path, shown: Path) -> tuple[bool, list[str]]:
    """Whether the pipeline that a folder's index names is Stable Diffusion XL, and the parts that it needs.

    Raises StudioError for a folder without an index, and for another pipeline.
    """
    if not (folder / INDEX).is_file():
        raise StudioError(_without_index(folder, shown))
    index = read_json(folder / INDEX, shown)
    parts = _parts(index, shown)
    return is_xl(index["_class_name"]), parts


def _without_index(folder: Path, shown: Path) -> str:
    files = [file.name for file in folder.iterdir() if file.suffix.lower() == ".safetensors"]
    told = f"{shown} has no {INDEX}, so it is no diffusers folder."
    return f"{told} Give the file {shown / files[0]} itself." if files else f"{told} Give the folder that has one."


def _parts(index: Mapping[str, Any], shown: Path) -> list[str]:
    """The parts that the pipeline needs."""
    name = index.get("_class_name")
    if not isinstance(name, str):
        raise StudioError(f"{INDEX} in {shown} does not name a pipeline (_class_name). {HINT}")
    if not _SUPPORTED.fullmatch(name):
        raise StudioError(
            f"{shown} is a {name}, which is not supported. Give a model of Stable Diffusion 1.x, 2.x or XL."
        )
    parts = ["unet", "vae", "text_encoder", "tokenizer", "scheduler"]
    if is_xl(name):
        parts += ["text_encoder_2", "tokenizer_2"]
    absent = [part for part in parts if not _is_named(index.get(part))]
    if is_xl(name) and "text_encoder" in absent and "text_encoder_2" not in absent:
        raise StudioError(
            f"{shown} is the refiner of Stable Diffusion XL, which has one text encoder. Give the base model."
        )
    if absent:
        raise StudioError(f"{INDEX} in {shown} names no {' and no '.join(absent)}. {HINT}")
    return parts


def is_xl(class_name: str) -> bool:
    """Whether a pipeline class is one of Stable Diffusion XL."""
    return class_name.startswith("StableDiffusionXL")


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) and each for each in value)


def _check_weights(folder: Path, part: str, shown: Path) -> None:
    """Raises StudioError for a part without weights, or with weights that cannot be read or do not fit."""
    config = read_json(folder / part / "config.json", shown)
    channels = [config.get(key, 4) for key in ("in_channels", "out_channels")]
    if part == "unet" and all(isinstance(count, int) for count in channels):
        refuse_other_inputs(str(shown), *channels)
    files = weight_files(folder, part, shown)
    shapes = {key: shape for file in files for key, shape in _read(file, part).shapes.items()}
    if files:
        check_part(folder, part, shapes, shown)


def weight_files(folder: Path, part: str, shown: Path) -> list[Path]:
    """The safetensors files of a part that diffusers reads; none where its weights are pickles.

    Raises StudioError for a part without weights.
    """
    stems = ("diffusion_pytorch_model",) if part in ("unet", "vae") else ("model", "pytorch_model")
    matches = [WEIGHTS.fullmatch(file.name) for file in sorted((folder / part).iterdir())]
    found = [match for match in matches if match and match["stem"] in stems]
    if not found:
        raise StudioError(f"{shown / part} has no weights. {HINT}")
    read = [match.string for match in found if match["kind"] == "safetensors" and _is_read(match, found)]
    return [folder / part / name for name in read]


def _is_read(match: re.Match[str], others: list[re.Match[str]]) -> bool:
    """Whether diffusers reads this file of weights: a whole one without a variant before shards."""
    whole = any(not other["shard"] and not other["variant"] and other["kind"] == "safetensors" for other in others)
    return not (match["shard"] or match["variant"]) if whole else bool(match["shard"])


def _read(file: Path, part: str) -> Header:
    try:
        return read_header(file)
    except StudioError as error:
        raise StudioError(f"{part}/{error}") from error
