"""Comparing: the same prompt and seeds, varied along two axes, with the scores of every cell."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from concepts.errors import StudioError
from studio.adapters.registry import method_named
from studio.models.generation_request import GenerationRequest
from training.jobs.variants import Training, Variants
from ui.services.named_concepts import NAMED, names_written
from ui.services.workflow import Workflow, summary

Axis = Literal[
    "none", "prompt", "concept", "step", "adapter", "rank", "merge method", "strength", "seed", "num_inference_steps",
    "guidance_scale", "scheduler",
]  # fmt: skip
MOST_CELLS = 64
_FIRST = ("prompt", "concept", "step")
OF_TRAININGS = ("adapter", "rank")
"""What tells trainings of the same pictures apart."""
_NUMBERS: dict[str, type] = {
    "rank": int, "step": int, "strength": float, "seed": int, "num_inference_steps": int, "guidance_scale": float,
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One picture of a grid, with its row, its column, and its scores."""

    row: int
    column: int
    prompt: str
    picture: Image.Image
    scores: dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """A comparison as far as it is generated: the values along both axes, and the cells."""

    rows: Sequence[str]
    columns: Sequence[str]
    backbone: str
    cells: Sequence[Cell]


def compare(
    workflow: Workflow, request: GenerationRequest, across: tuple[Axis, str], down: tuple[Axis, str],
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[Grid]:  # fmt: skip
    """Generates one picture for each pair of values, and yields the grid after each.

    An axis is what varies, and its values, as `values_of` reads them. "concept" takes the place of {} in the prompt;
    "step" takes snapshots of what the prompt names; "adapter" and "rank" put another training of the same pictures in
    the place of every concept that it names.

    Raises StudioError for an axis that does not fit, and for a training that there is not, before anything is
    generated.
    """
    columns, rows = both_values(across, down)
    variants = Variants(workflow.library, workflow.family)
    plan = [(y, x, _with_training(variants, *cell)) for y, x, cell in _cells(request, across, down)]
    cells: list[Cell] = []
    for y, x, wanted in plan:
        ((_, picture),) = workflow.generate_each(wanted, on_step)
        cells.append(Cell(y, x, wanted.prompt, picture, _scores(workflow, wanted.prompt, picture)))
        yield Grid(rows, columns, workflow.scorer.backbone, [*cells])


def missing(
    workflow: Workflow, request: GenerationRequest, across: tuple[Axis, str], down: tuple[Axis, str]
) -> list[Training]:
    """The trainings that these axes ask for and the library lacks, each once."""
    variants = Variants(workflow.library, workflow.family)
    lacking = [
        variants.training(name, wanted)
        for _, _, (cell, wanted) in _cells(request, across, down) if wanted
        for name in names_written(cell.prompt) if variants.trained(name, wanted) is None
    ]  # fmt: skip
    return [*{training.name.lower(): training for training in lacking}.values()]


def _cells(
    request: GenerationRequest, across: tuple[Axis, str], down: tuple[Axis, str]
) -> list[tuple[int, int, tuple[GenerationRequest, dict[str, Any]]]]:
    """Row, column, request and the training that is wanted, of every pair of values."""
    columns, rows = both_values(across, down)
    return [
        (y, x, _cell(request, (across[0], column), (down[0], row)))
        for y, row in enumerate(rows) for x, column in enumerate(columns)
    ]  # fmt: skip


def _cell(request: GenerationRequest, *values: tuple[Axis, str]) -> tuple[GenerationRequest, dict[str, Any]]:
    """The request with both values: the prompt, then the concept in it, then a strength of what the prompt names.

    Beside it the training that is wanted of what the prompt names, as its adapter and rank.
    """
    wanted = {axis: _number(axis, value) if axis == "rank" else value
              for axis, value in values if axis in OF_TRAININGS}  # fmt: skip
    for axis, value in sorted(values, key=lambda pair: [*_FIRST, pair[0]].index(pair[0])):
        request = request if axis in wanted else varied(request, axis, value)
    if wanted and not names_written(request.prompt):
        raise StudioError(
            "The axes adapter and rank compare trainings of a concept. Name one in the prompt, such as a "
            "photo of <rex>."
        )
    return request, wanted


def _with_training(variants: Variants, request: GenerationRequest, wanted: Mapping[str, Any]) -> GenerationRequest:
    """The request with these trainings in the place of the concepts that its prompt names."""
    if not wanted:
        return request
    names = {name: _trained(variants, name, wanted) for name in names_written(request.prompt)}
    prompt, negative = (
        re.sub("|".join(f"<{name}>" for name in names), lambda match: f"<{names[match[0][1:-1]]}>", text)
        for text in (request.prompt, request.negative_prompt)
    )
    strengths = {names.get(name, name): value for name, value in request.strengths.items()}
    return GenerationRequest(
        **{**request.model_dump(), "prompt": prompt, "negative_prompt": negative, "strengths": strengths}
    )


def _trained(variants: Variants, name: str, wanted: Mapping[str, Any]) -> str:
    found = variants.trained(name, wanted)
    if found is None:
        words = " and ".join(f"{key} {value}" for key, value in wanted.items())
        raise StudioError(f'"{name}" was not trained with {words} yet. Train it first.')
    return found.name


def both_values(across: tuple[Axis, str], down: tuple[Axis, str]) -> tuple[list[str], list[str]]:
    """The values across and those down. Raises StudioError for more pairs than a grid may have."""
    columns, rows = values_of(*across), values_of(*down)
    cells = len(columns) * len(rows)
    if cells > MOST_CELLS:
        raise StudioError(f"These axes have {cells} images. Choose fewer values, for at most {MOST_CELLS}.")
    return columns, rows


def values_of(axis: Axis, text: str) -> list[str]:
    """The values along an axis, separated by commas; prompts, which have commas, by semicolons.

    Raises StudioError where there is none, for what should be a number, and for an adapter that there is not.
    """
    if axis == "none":
        return [""]
    separator, called = (";", "semicolons") if axis == "prompt" else (",", "commas")
    values = [value.strip() for value in text.split(separator) if value.strip()]
    if not values:
        raise StudioError(f"The axis {axis} has no values. Enter them, separated by {called}.")
    for value in values:
        if axis in _NUMBERS:
            _number(axis, value)
        elif axis == "adapter":
            method_named(value)
    return values


def varied(request: GenerationRequest, axis: Axis, value: str) -> GenerationRequest:
    """The request with one value along an axis."""
    if axis == "none":
        return request
    if axis == "concept":
        if "{}" not in request.prompt:
            raise StudioError("The prompt has no {}. Write {} where the concept's name goes.")
        change: Mapping[str, Any] = {"prompt": request.prompt.replace("{}", f"<{value.strip('<>')}>")}
    elif axis == "prompt":
        change = {"prompt": value}
    elif axis == "step":
        step = _number(axis, value)
        change = {key: NAMED.sub(rf"<\1@{step}>", getattr(request, key)) for key in ("prompt", "negative_prompt")}
    elif axis == "merge method":
        change = {"method": value}
    elif axis == "scheduler":
        change = {"scheduler": value}
    elif axis == "strength":
        change = {"strengths": dict.fromkeys(names_written(request.prompt), _number(axis, value))}
    else:
        change = {axis: _number(axis, value)}
    return GenerationRequest(**{**request.model_dump(), **change})


def _number(axis: str, value: str) -> Any:
    try:
        return _NUMBERS[axis](value)
    except ValueError:
        raise StudioError(f"{value!r} is not a number. Enter numbers as the values of {axis}.") from None


def _scores(workflow: Workflow, prompt: str, picture: Image.Image) -> dict[str, Any]:
    """Alignment with the prompt, and with the pictures of the concepts that it names."""
    concepts = [workflow.library.concept(name) for name in names_written(prompt)]
    references = [picture for concept in concepts for picture in workflow.pictures(concept)]
    return summary(workflow.score([picture], workflow.plain(prompt), references))


def caption(scores: Mapping[str, Any]) -> str:
    """A cell's scores in a line."""
    image = scores["image_alignment"]
    return f"text {scores['text_alignment']:.3f}" + ("" if image is None else f"  image {image:.3f}")
