"""The `parameters` text that A1111 and Forge keep in a PNG file: written beside our own record, and read."""

import json
import re
from collections.abc import Mapping
from typing import Any

from concepts.errors import StudioError
from studio.models.generation_request import GenerationRequest
from studio.models.img2img.denoising_strength import MASK_BLUR, strength_or_default
from studio.models.scheduler_names import SCHEDULERS

KEY = "parameters"
"""The PNG text chunk's keyword."""
_NEGATIVE = "Negative prompt:"
_PAIR = re.compile(r'\s*(\w[\w /-]*):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_FEWEST = 3
"""A last line with fewer settings belongs to the prompt, as in A1111's own reader."""
_SPELLED = {
    "ddim": "DDIM", "ddpm": "DDPM", "pndm": "PLMS", "euler": "Euler", "euler a": "Euler a", "heun": "Heun",
    "dpm2": "DPM2", "dpm2 a": "DPM2 a", "dpm++ 2m": "DPM++ 2M", "dpm++ 2m sde": "DPM++ 2M SDE", "dpm++ 2s": "DPM++ 2S",
    "deis": "DEIS", "unipc": "UniPC",
}  # fmt: skip
"""A1111's spelling of the samplers, by our names without "karras"."""
_KARRAS = " karras"
_HIRES = "Hires "
"""What the settings of A1111's second pass over an image begin with, whose denoising strength is of no start image."""
_OF_A_START_IMAGE = {"Denoising strength", "Mask blur"}
_SILENT = {"Model", "Model hash", "Version", "Schedule type"}
"""What says where an image is from, and what is read with the sampler."""


def parameters_text(request: GenerationRequest, seed: int, size: tuple[int, int]) -> str:
    """A request's image of this seed and size (width, height) as A1111 writes it.

    Concepts stand as <NAME>, or <NAME:0.8> with a strength of all their layers; strengths of blocks, regions, merges
    and the names of files have no place in this text, and are in our own record alone.
    """
    lines = [_with_strengths(request)]
    if request.negative_prompt:
        lines.append(f"{_NEGATIVE} {request.negative_prompt}")
    settings: dict[str, Any] = {"Steps": request.num_inference_steps}
    if request.scheduler:
        settings["Sampler"] = _SPELLED[request.scheduler.removesuffix(_KARRAS)]
        settings |= {"Schedule type": "Karras"} if request.scheduler.endswith(_KARRAS) else {}
    settings |= {"CFG scale": f"{request.guidance_scale:g}", "Seed": seed, "Size": f"{size[0]}x{size[1]}"}
    if request.image is not None:
        strength = strength_or_default(request.denoising_strength, request.mask is not None)
        settings["Denoising strength"] = f"{strength:g}"
    if request.mask is not None:
        settings["Mask blur"] = f"{MASK_BLUR if request.mask_blur is None else request.mask_blur:g}"
    return "\n".join([*lines, ", ".join(f"{key}: {value}" for key, value in settings.items())])


def read_parameters(text: str) -> tuple[dict[str, Any], list[str]]:
    """The fields of a GenerationRequest in A1111's text, and the names of the settings that were not taken.

    Prompts are in A1111's syntax. Raises StudioError for text without such settings.
    """
    *lines, last = text.strip().split("\n")
    found = {match[1]: _plain(match[2]) for match in _PAIR.finditer(last)}
    if len(found) < _FEWEST:
        raise StudioError("The image's parameters are not A1111's. Choose an image of A1111, Forge or Concept Studio.")
    body = "\n".join(lines)
    prompt, _, negative = body.partition(_NEGATIVE)
    values: dict[str, Any] = {
        "prompt": prompt.strip(), "negative_prompt": negative.strip(), "prompt_syntax": "a1111", "guidance_rescale": 0.0
    }  # fmt: skip
    ignored = []
    second_pass = any(key.startswith(_HIRES) for key in found)
    for key, value in found.items():
        if key in _READ and not (second_pass and key in _OF_A_START_IMAGE):
            values |= _read(key, value, found)
        elif key not in _SILENT:
            ignored.append(key)
    return values, [*ignored, *(["Sampler"] if "Sampler" in found and "scheduler" not in values else [])]


def _with_strengths(request: GenerationRequest) -> str:
    prompt = request.prompt
    for name, strength in request.strengths.items():
        if isinstance(strength, float | int):
            prompt = re.sub(f"<({re.escape(name)})>", rf"<\1:{strength:g}>", prompt, flags=re.IGNORECASE)
    return prompt


def _plain(value: str) -> str:
    """A setting's value without the quotes that A1111 puts around commas and colons."""
    try:
        return str(json.loads(value)) if value.startswith('"') else value.strip()
    except ValueError:
        return value


def _read(key: str, value: str, found: Mapping[str, str]) -> dict[str, Any]:
    try:
        return _READ[key](value, found)
    except (ValueError, TypeError) as error:
        raise StudioError(f"The image's parameters are damaged: {key} is {value!r}. Choose another image.") from error


def _scheduler(value: str, found: Mapping[str, str]) -> dict[str, Any]:
    spelled = {spelling.lower(): name for name, spelling in _SPELLED.items()}
    lower = value.lower()
    karras = lower.endswith(_KARRAS) or found.get("Schedule type", "").lower() == "karras"
    name = spelled.get(lower.removesuffix(_KARRAS), "")
    full = name + _KARRAS if karras and name else name
    return {"scheduler": full} if full in SCHEDULERS else {"scheduler": name} if name in SCHEDULERS else {}


_READ: dict[str, Any] = {
    "Steps": lambda value, _: {"num_inference_steps": int(value)},
    "Sampler": _scheduler,
    "CFG scale": lambda value, _: {"guidance_scale": float(value)},
    "CFG Rescale": lambda value, _: {"guidance_rescale": float(value)},
    "Seed": lambda value, _: {"seed": int(value)},
    "Size": lambda value, _: {"size": tuple(int(side) for side in value.split("x"))},
    "Denoising strength": lambda value, _: {"denoising_strength": float(value)},
    "Mask blur": lambda value, _: {"mask_blur": float(value)},
}
