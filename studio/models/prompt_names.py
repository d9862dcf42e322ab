"""How concepts are named in prompts: <rex>, and the forms of other tools whose meaning is plain."""

import math
import re

from concepts.errors import StudioError
from concepts.names import NAME

_WRITTEN = re.compile(r"<([^<>]*)>")
_TOOLS = re.compile(r"\s*(?:lora|lyco|lycoris|hypernet)\s*:", re.IGNORECASE)

Strength = float | dict[str, float]


def read_names(prompt: str) -> tuple[str, dict[str, Strength]]:
    """The prompt with every name as <rex>, and the strengths that it gives: <rex:0.8>, <lora:rex:0.8>, and A1111's
    <lora:rex:0.8:0.5>, the strength of the text encoder, then that of the UNet.

    Blanks inside are dropped, as in < rex >. Raises StudioError for anything else between < and >, with what to write.
    """
    strengths: dict[str, Strength] = {}

    def named(match: re.Match[str]) -> str:
        name, *numbers = (part.strip() for part in _TOOLS.sub("", match[1], count=1).split(":"))
        if not NAME.fullmatch(name):
            raise StudioError(f"{match[0]} names no concept. {_advice(name)}")
        if numbers:
            given = _strength(match[0], numbers)
            known = next((known for known in strengths if known.lower() == name.lower()), name)
            if strengths.setdefault(known, given) != given:
                raise StudioError(f"{name} has two strengths in the prompt. Give one.")
        return f"<{name}>"

    return _WRITTEN.sub(named, prompt), strengths


def _strength(written: str, numbers: list[str]) -> Strength:
    try:
        values = [float(number) for number in numbers]
        if not all(map(math.isfinite, values)):
            raise ValueError
    except ValueError as error:
        raise StudioError(f"{written} has no number as its strength. Write <rex:0.8>.") from error
    if len(values) > 2:
        raise StudioError(
            f"{written} has too many numbers. Write <rex:0.8>, or <rex:0.8:0.5> for text encoder and UNet."
        )
    if len(values) == 1:
        return values[0]
    return {"": values[0], "unet": values[1]}  # of every text encoder, and of the UNet


def _advice(name: str) -> str:
    near = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
    if near and NAME.fullmatch(near):
        return f"A name has no blanks and no other characters than letters, digits, _ and -: write <{near}>."
    return "Write a concept's name between < and >, such as <rex>, or leave them out."
