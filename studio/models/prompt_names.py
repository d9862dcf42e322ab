"""How concepts are named in prompts: <rex>, and the forms of other tools whose meaning is plain."""

import math
import re
from collections.abc import Iterable

from concepts.errors import StudioError
from concepts.patterns import NAME

_WRITTEN = re.compile(r"<([^<>]*)>")
_TOOLS = re.compile(r"\s*(?:lora|lyco|lycoris|hypernet)\s*:(?!\s*[\d.+-])", re.IGNORECASE)
_HALF = re.compile(r"<[A-Za-z][\w-]*|(?<![\w-])[A-Za-z][\w-]*>")

STEP = re.compile(r"@\d{1,9}$")
"""The step of a snapshot, after a name."""
Strength = float | dict[str, float]


def read_names(prompt: str) -> tuple[str, dict[str, Strength]]:
    """The prompt with every name as <rex>, or <rex@80> for a snapshot, and the strengths that it gives: <rex:0.8>,
    <lora:rex:0.8>, and A1111's <lora:rex:0.8:0.5>, the strength of the text encoder, then that of the UNet.

    Blanks inside are dropped, as in < rex >. Several words with a blank beside a bracket, as in "a < b and c > d", are
    no name and stay. Raises StudioError for anything else between < and >, with what to write.
    """
    strengths: dict[str, Strength] = {}

    def named(match: re.Match[str]) -> str:
        written, *numbers = _parts(match)
        name = STEP.sub("", written)
        if not NAME.fullmatch(name):
            if match[1] != match[1].strip() and len(match[1].split()) > 1:
                return match[0]
            raise StudioError(f"{match[0]} names no concept. {_advice(name)}")
        if numbers:
            given = _strength(match[0], numbers)
            known = next((known for known in strengths if known.lower() == name.lower()), name)
            if strengths.setdefault(known, given) != given:
                raise StudioError(f"{name} has two strengths in the prompt. Give one.")
        return f"<{written}>"

    return _WRITTEN.sub(named, prompt), strengths


def read_negative_names(prompt: str) -> str:
    """A negative prompt with every name as <rex>. Raises StudioError as `read_names` does, and for a strength, which a
    concept has once for all of an image.
    """
    read, strengths = read_names(prompt)
    if name := next(iter(strengths), None):
        raise StudioError(
            f"{name} has a strength in the negative prompt, where none is read. Write <{name}> there, and its strength "
            "in the prompt or with --strength."
        )
    return read


def with_own_name(caption: str, name: str) -> str:
    """A caption with every form of this concept's name as <NAME>; its strength, which training has none of, dropped."""
    own = name.lower()

    def written(match: re.Match[str]) -> str:
        given = _parts(match)[0]
        return f"<{given}>" if given.lower() == own else match[0]

    return _WRITTEN.sub(written, caption)


def others_between_brackets(text: str, names: Iterable[str] = ()) -> list[str]:
    """What stands between < and >, or beside one of them alone, and is none of these names: it is read as letters."""
    known = {name.lower() for name in names}
    others = [match[0] for match in _WRITTEN.finditer(text) if _parts(match)[0].lower() not in known]
    return list(dict.fromkeys([*others, *_HALF.findall(_WRITTEN.sub(" ", text))]))


def _parts(match: re.Match[str]) -> list[str]:
    """The name that is written between the brackets, and its strengths."""
    return [part.strip() for part in _TOOLS.sub("", match[1], count=1).split(":")]


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
