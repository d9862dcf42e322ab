"""The concepts that a prompt and its strengths name, and those that are given by a file instead of a name."""

import re
from collections.abc import Mapping
from pathlib import Path

from concepts import UnavailableError
from concepts.errors import StudioError
from concepts.patterns import NAME
from concepts.storage import read_file, storage_path
from studio.adapters.concept_file import TrainedConcept, from_bytes
from studio.models.base_model import Base
from studio.models.generation_request import GenerationRequest
from studio.models.layer_strengths import Strength, check_strength
from studio.models.prompt_notes import notes_of
from studio.models.token_embeddings import token_of

NAMED = re.compile(r"<([A-Za-z][\w-]*)(?:@(\d+))?>")
"""A name in a prompt, with the step of a snapshot if it has one, as `studio.models.prompt_names` writes it."""
_AT = re.compile(r"(.+)@(\d+)")


def names_written(prompt: str) -> list[str]:
    """The names in a prompt, <NAME> or <NAME@STEP>, each once, whether there are such concepts or not."""
    return list(dict.fromkeys(match[1] for match in NAMED.finditer(prompt)))


def name_and_step(name: str) -> tuple[str, int | None]:
    """The parts of NAME@STEP; the step is None where there is none."""
    match = None if is_concept_file(name) else _AT.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, None)


def with_steps(request: GenerationRequest) -> tuple[GenerationRequest, dict[str, int]]:
    """The request without the steps of snapshots, and these steps by the name in lower case.

    Raises StudioError for a name with two steps, or once with and once without.
    """
    found: dict[str, set[int | None]] = {}
    for match in NAMED.finditer(f"{request.prompt} {request.negative_prompt}"):
        found.setdefault(match[1].lower(), set()).add(int(match[2]) if match[2] else None)
    for name, step in map(name_and_step, request.concepts):
        if step is not None:
            found.setdefault(name.lower(), set()).add(step)
    if name := next((name for name, steps in found.items() if len(steps) > 1), None):
        raise StudioError(
            f"{name} is named at two steps of its training. An image has one of them: write the same one everywhere."
        )
    steps = {name: step for name, (step,) in found.items() if step is not None}
    if not steps:
        return request, {}
    plain = {
        key: NAMED.sub(r"<\1>", text)
        for key, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt))
    }
    names = tuple(name_and_step(name)[0] for name in request.concepts)
    return request.model_copy(update={**plain, "concepts": names}), steps


def prompt_notes(request: GenerationRequest) -> list[str]:
    """What of a request's prompts is read as it stands, although it looks like more."""
    option = "--prompt-syntax a1111, on the page the prompt syntax a1111"
    texts = {"The prompt": request.prompt, "The negative prompt": request.negative_prompt}
    return [
        note
        for what, text in texts.items()
        for note in notes_of(text, request.prompt_syntax, names_written(text), what, "has", option)
    ]


def alone(prompt: str, name: str) -> str:
    """The prompt for one of its concepts: what stands before the first name, this one, what follows the last.

    "a photo of <milo> and <rex> on the beach" is "a photo of <rex> on the beach" for rex.
    """
    found = list(NAMED.finditer(prompt))
    if not found:
        return token_of(name)
    return prompt[: found[0].start()] + token_of(name) + prompt[found[-1].end() :]


def known_strengths(
    strengths: Mapping[str, Strength] | None, concepts: Mapping[str, TrainedConcept], base: Base
) -> dict[str, Strength]:
    """Strengths by the concepts' own names; StudioError for a concept that takes no part, and for a part or block that
    the base does not have.
    """
    keys = {name.lower(): name for name in concepts}
    for name, strength in (strengths or {}).items():
        if name.lower() not in keys:
            raise StudioError(
                f"{name} has a strength, but is not among the concepts used. Name it in the prompt, or leave its "
                "strength out."
            )
        check_strength(base.parts, strength)
    return {keys[name.lower()]: value for name, value in (strengths or {}).items()}


def is_concept_file(name: str) -> bool:
    """Whether this is the path of a concept's file rather than a name."""
    return name.lower().endswith(".safetensors")


def read_concept_file(name: str) -> TrainedConcept:
    """A concept's file. Raises StudioError, with what the file is instead, where it is none."""
    try:
        data = read_file(storage_path(name))
    except UnavailableError as error:
        raise StudioError(
            f"{name} cannot be read. Give a file that is there: a result in the library, or what studio merge wrote."
        ) from error
    try:
        return from_bytes(data, name)
    except StudioError as error:
        from studio.formats.other_families import not_a_concept  # here, since generating otherwise needs no formats

        if said := not_a_concept(name, data):
            raise StudioError(said) from error
        raise


def refuse_other_paths(name: str) -> None:
    """Raises StudioError for a folder, and for a file of another kind than a concept's, where a concept is needed."""
    path = Path(name)
    if NAME.fullmatch(name) or not path.exists():
        return
    if path.is_dir():
        raise StudioError(
            f"{name} is a folder, not a concept. If PEFT wrote it, add it to the library first: studio import {name} "
            "--name NAME."
        )
    raise StudioError(
        f"{name} is not a .safetensors file. Give the name of a concept of the library, or a concept's file."
    )
