"""Loads pipelines from folders, files and the hub, without the libraries' progress bars and notes."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers.utils import logging as transformers_logging

from concepts.errors import StudioError
from studio.bundled import TOYBOX
from studio.hub_access import hub_access
from studio.layers.target_modules import CHOICES
from studio.models.checkpoints.folder import check_folder, is_xl
from studio.models.checkpoints.links import as_diffusers_reads

DEFAULTS = "studio.json"
"""An optional file in a base's folder: {"sites": […]}, the layers that concepts of this base adapt by default."""


def default_target_modules(source: str) -> tuple[str, ...]:
    """The kinds of layers, of CHOICES, that a base's folder names in `DEFAULTS`; attention if there is no such file.

    Raises StudioError for a file that names none, or unknown ones.
    """
    file = _place(source) / DEFAULTS
    if not file.is_file():
        return ("attention",)
    try:
        kinds = tuple(json.loads(file.read_text(encoding="utf-8-sig"))["sites"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise StudioError(
            f'{file} cannot be read. Write JSON such as {{"sites": ["attention"]}} into it, or delete it.'
        ) from error
    if not kinds or any(kind not in CHOICES for kind in kinds):
        raise StudioError(
            f"Invalid target modules in {file}: {', '.join(map(str, kinds)) or 'none'}. Choose "
            f"from {', '.join(CHOICES)}."
        )
    return kinds


@contextmanager
def libraries_silent() -> Iterator[None]:
    """While open, diffusers and transformers show no progress bars, and log and warn of nothing but errors."""
    shown = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    levels = {library: library.get_verbosity() for library in (diffusers_logging, transformers_logging)}
    for library in shown:
        library.disable_progress_bar()
    for library in levels:
        library.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library in shown:
            library.enable_progress_bar()
        for library, level in levels.items():
            library.set_verbosity(level)


def open_pipeline(source: str, device: str = "cpu") -> Any:
    """The bundled pipeline for "toybox", else one of Stable Diffusion 1.x, 2.x or XL from a diffusers folder, a
    .safetensors checkpoint or a model of the hub, in float32, on the device.

    Raises StudioError when there is none, and for weights that are not finite.
    """
    with libraries_silent():
        if not Path(source).is_file():
            pipeline = _pretrained(source)
        else:
            from studio.models.single_file import load_single_file

            pipeline = load_single_file(Path(source))
        check_finite(pipeline, source)
        return pipeline.to(device)


@torch.no_grad()
def check_finite(pipeline: Any, source: str) -> None:
    """Raises StudioError for a weight that is NaN or infinite, or was not loaded."""
    for name, part in pipeline.components.items():
        for key, weight in part.named_parameters() if isinstance(part, nn.Module) else ():
            if weight.is_meta:
                raise StudioError(f"{source} has no weight {key} of the {name}. Get a complete copy.")
            if weight.numel() and not all(bound.isfinite() for bound in weight.aminmax()):
                raise StudioError(
                    f"{key} of the {name} in {source} has values that are NaN or infinite. Get another "
                    "copy, or another checkpoint."
                )


def _place(source: str) -> Path:
    return TOYBOX if source == "toybox" else Path(source)


def _pretrained(source: str) -> Any:
    place = _place(source)
    if place.is_dir():
        with as_diffusers_reads(place) as folder:
            return _from_pretrained(str(folder), check_folder(folder, place), f"{source} could not be loaded")
    return _from_hub(source)


@hub_access()
def _from_hub(source: str) -> Any:
    try:
        config: Any = DiffusionPipeline.load_config(source)
        xl = is_xl(config["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudioError(
            f"No base could be loaded from {source!r}. Give --base toybox, a diffusers folder, a .safetensors "
            "checkpoint or a Hugging Face Hub model ID."
        ) from error
    return _from_pretrained(source, xl, f"The model {source} of the hub could not be loaded")


def _from_pretrained(place: str, xl: bool, failed: str) -> Any:
    """diffusers' pipeline in a folder or on the hub, without the parts that only other tasks need."""
    options: dict[str, Any] = {"dtype": torch.float32, "image_encoder": None, "feature_extractor": None}
    try:
        if xl:
            return StableDiffusionXLPipeline.from_pretrained(place, **options)
        options |= {"safety_checker": None, "requires_safety_checker": False}
        return StableDiffusionPipeline.from_pretrained(place, **options)
    except Exception as error:  # the libraries raise errors of many kinds
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:150].rstrip(".")
        raise StudioError(f"{failed} ({said}). Get a complete copy, or give another base.") from error
