"""Loads pipelines from folders, files and the hub, without the libraries' progress bars."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from concepts.errors import StudioError
from studio.bundled import TOYBOX
from studio.layers.target_modules import CHOICES

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
        kinds = tuple(json.loads(file.read_text(encoding="utf-8"))["sites"])
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
def progress_bars_disabled() -> Iterator[None]:
    """While open, diffusers' and transformers' progress bars are disabled."""
    shown = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def open_pipeline(source: str) -> Any:
    """The bundled pipeline for "toybox", else one of Stable Diffusion 1.x, 2.x or XL from a diffusers folder, a
    .safetensors checkpoint or a model of the hub, in float32.

    Raises StudioError when there is none.
    """
    with progress_bars_disabled():
        if not Path(source).is_file():
            return _pretrained(source)
        from studio.models.single_file import load_single_file

        return load_single_file(Path(source))


def _place(source: str) -> Path:
    return TOYBOX if source == "toybox" else Path(source)


def _pretrained(source: str) -> Any:
    place = str(_place(source))
    try:
        config: Any = DiffusionPipeline.load_config(place)
        if config["_class_name"].startswith("StableDiffusionXL"):
            return StableDiffusionXLPipeline.from_pretrained(place, dtype=torch.float32)
        return StableDiffusionPipeline.from_pretrained(
            place, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise StudioError(
            f"No base could be loaded from {source!r}. Give --base toybox, a diffusers folder, a .safetensors "
            "checkpoint or a Hugging Face Hub model ID."
        ) from error
