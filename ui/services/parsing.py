"""Texts that people give as values: strengths, boxes, sizes, numbers, prompts."""

import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from concepts.errors import StudioError
from concepts.text_files import read_text
from studio.models.generation_request import AUTO, Box

_MASKS = (".png", ".jpg", ".jpeg", ".webp")
_BOX = re.compile(r"([\w-]+):(\d*\.?\d+),(\d*\.?\d+),(\d*\.?\d+),(\d*\.?\d+)")


def pairs(values: Sequence[str], option: str) -> dict[str, str]:
    """KEY=VALUE arguments as a dictionary."""
    split = [value.partition("=") for value in values]
    for value, (key, sign, _) in zip(values, split, strict=True):
        if not (key and sign):
            raise StudioError(f"{option} {value!r} is invalid. Give NAME=VALUE.")
    return {key: value for key, _, value in split}


def numbers_from(values: Sequence[str], option: str) -> dict[str, float]:
    """NAME=1.0 arguments by name."""
    return {name: _number(value, option) for name, value in pairs(values, option).items()}


def strengths_from(values: Sequence[str], option: str = "--strength") -> dict[str, float | dict[str, float]]:
    """--strength NAME=1.0 arguments by name, or NAME=unet:0.8,text_encoder:0.5,unet.up_blocks.1:0.2 with a number for
    each part or block.
    """
    return {name: _strength(value, option) for name, value in pairs(values, option).items()}


def _strength(text: str, option: str) -> float | dict[str, float]:
    if ":" not in text:
        return _number(text, option)
    parts = [part.partition(":") for part in text.replace(" ", "").split(",")]
    return {key: _number(number if key else text, option) for key, _, number in parts}


def _number(text: str, option: str) -> float:
    with suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise StudioError(f"{option} {text!r} is not a number. Give NAME=NUMBER, such as rex=0.8.")


def prompts_from(file: Path) -> list[str]:
    """The prompts in a text file, one a line. Raises StudioError where there are none, or no text."""
    lines = read_text(file, "The file of prompts").splitlines()
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise StudioError(f"{file.name} has no prompts. Write one prompt per line.")
    return prompts


def regions_from(values: Sequence[str]) -> tuple[dict[str, Box | str], bool]:
    """--region arguments: NAME:top,left,bottom,right, NAME:auto and NAME:FILE by name; whether one is auto alone."""
    places = dict[str, Box | str]()
    for value in values:
        name, _, place = value.partition(":")
        if match := _BOX.fullmatch(value.replace(" ", "")):
            top, left, bottom, right = (float(number) for number in match.groups()[1:])
            places[match[1]] = (top, left, bottom, right)
        elif name.strip() and (place == AUTO or place.lower().endswith(_MASKS)):
            places[name.strip()] = place
        elif value != AUTO:
            raise StudioError(
                f"--region {value!r} is invalid. Give NAME:top,left,bottom,right, such as rex:0,0,1,0.5, NAME:auto, or "
                "NAME:FILE with a mask in a PNG file."
            )
    return places, AUTO in values


def size_from(text: str | None) -> tuple[int, int] | None:
    """A --size WIDTHxHEIGHT argument."""
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text or "")
    if text and not match:
        raise StudioError(f"--size {text!r} is invalid. Give WIDTHxHEIGHT in pixels, such as 256x128.")
    return (int(match[1]), int(match[2])) if match else None


def number_from(text: str, called: str = "max_parameters") -> int:
    """A whole number such as 20000, 20k or 1.5M; a refusal says what it is called."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text)
    if not match:
        example = "8" if called == "rank" else "20000, 20k or 1.5M"
        raise StudioError(f"{called} {text!r} is not a number. Give one such as {example}.")
    return int(float(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()])


def parsed(text: str) -> Any:
    """A --set value: a number, true, false or null as JSON has them, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
