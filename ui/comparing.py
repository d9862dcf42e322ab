"""Comparing: the same prompt and seeds, varied along two axes, with the scores of every cell."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

from studio.errors import StudioError
from training.report import Section, report_html
from ui.painting import names_written
from ui.request import PaintRequest
from ui.workflow import Workflow, summary

Axis = Literal["none", "prompt", "concept", "merge method", "strength", "seed", "steps", "guidance"]
MOST_CELLS = 64
_FIRST = ("prompt", "concept")
_NUMBERS: dict[str, type] = {"strength": float, "seed": int, "steps": int, "guidance": float}
_LABEL, _GAP, _CAPTION = 150, 8, 34


@dataclass(frozen=True)
class Cell:
    """One picture of a grid, with its row, its column, and its scores."""

    row: int
    column: int
    picture: Image.Image
    scores: dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """A comparison as far as it is painted: the values along both axes, and the cells."""

    rows: Sequence[str]
    columns: Sequence[str]
    backbone: str
    cells: Sequence[Cell]


def compare(
    workflow: Workflow, request: PaintRequest, across: tuple[Axis, str], down: tuple[Axis, str],
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[Grid]:  # fmt: skip
    """Paints one picture for each pair of values, and yields the grid after each.

    An axis is what varies, and its values, as `values_of` reads them. "concept" takes the place of {} in the prompt; a
    concept trained with another adapter or rank is another concept.

    Raises StudioError for an axis that does not fit, before anything is painted.
    """
    columns, rows = values_of(*across), values_of(*down)
    if len(columns) * len(rows) > MOST_CELLS:
        raise StudioError(f"Ask for at most {MOST_CELLS} pictures: these axes have {len(columns) * len(rows)}.")
    cells: list[Cell] = []
    plan = [[_cell(request, (across[0], x), (down[0], y)) for x in columns] for y in rows]
    for y, row in enumerate(plan):
        for x, wanted in enumerate(row):
            ((_, picture),) = workflow.paint_each(wanted, on_step)
            cells.append(Cell(y, x, picture, _scores(workflow, wanted.prompt, picture)))
            yield Grid(rows, columns, workflow.scorer.backbone, [*cells])


def _cell(request: PaintRequest, *values: tuple[Axis, str]) -> PaintRequest:
    """The request with both values: the prompt, then the concept in it, then a strength of what the prompt names."""
    for axis, value in sorted(values, key=lambda pair: [*_FIRST, pair[0]].index(pair[0])):
        request = varied(request, axis, value)
    return request


def values_of(axis: Axis, text: str) -> list[str]:
    """The values along an axis, separated by commas; prompts, which have commas, by semicolons."""
    if axis == "none":
        return [""]
    separator, called = (";", "semicolons") if axis == "prompt" else (",", "commas")
    values = [value.strip() for value in text.split(separator) if value.strip()]
    if not values:
        raise StudioError(f"Write the values of {axis}, separated by {called}.")
    return values


def varied(request: PaintRequest, axis: Axis, value: str) -> PaintRequest:
    """The request with one value along an axis."""
    if axis == "none":
        return request
    if axis == "concept":
        if "{}" not in request.prompt:
            raise StudioError("Write {} in the prompt where the concept stands.")
        change: Mapping[str, Any] = {"prompt": request.prompt.replace("{}", f"<{value.strip('<>')}>")}
    elif axis == "prompt":
        change = {"prompt": value}
    elif axis == "merge method":
        change = {"method": value}
    elif axis == "strength":
        change = {"strengths": dict.fromkeys(names_written(request.prompt), _number(axis, value))}
    else:
        change = {axis: _number(axis, value)}
    return PaintRequest(**{**request.model_dump(), **change})


def _number(axis: str, value: str) -> Any:
    try:
        return _NUMBERS[axis](value)
    except ValueError:
        raise StudioError(f"Write numbers as the values of {axis}: {value!r} is none.") from None


def _scores(workflow: Workflow, prompt: str, picture: Image.Image) -> dict[str, Any]:
    """Alignment with the prompt, and with the pictures of the concepts that it names."""
    concepts = [workflow.library.concept(name) for name in names_written(prompt)]
    references = [picture for concept in concepts for picture in workflow.pictures(concept)]
    return summary(workflow.score([picture], workflow.plain(prompt), references))


def caption(scores: Mapping[str, Any]) -> str:
    """A cell's scores in a line."""
    image = scores["image_alignment"]
    return f"text {scores['text_alignment']:.3f}" + ("" if image is None else f"  image {image:.3f}")


def as_picture(grid: Grid, title: str) -> Image.Image:
    """The grid as one picture, with its axes and scores."""
    side = max(cell.picture.width for cell in grid.cells)
    width = _LABEL + len(grid.columns) * (side + _GAP)
    sheet = Image.new("RGB", (width, 60 + len(grid.rows) * (side + _CAPTION)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    draw.text((_GAP, 6), f"{title}   scored by {grid.backbone}", fill="#222222", font=font)
    for x, value in enumerate(grid.columns):
        draw.text((_LABEL + x * (side + _GAP), 34), value, fill="#222222", font=font)
    for y, value in enumerate(grid.rows):
        draw.text((_GAP, 60 + y * (side + _CAPTION)), value, fill="#222222", font=font)
    for cell in grid.cells:
        left, top = _LABEL + cell.column * (side + _GAP), 60 + cell.row * (side + _CAPTION)
        sheet.paste(cell.picture, (left, top))
        draw.text((left, top + side + 4), caption(cell.scores), fill="#555555", font=ImageFont.load_default(11))
    return sheet


def as_html(grid: Grid, title: str) -> str:
    """The grid as a page of its own: the picture, and the scores as a table."""
    rows = [
        {"row": grid.rows[cell.row], "column": grid.columns[cell.column], **cell.scores} for cell in grid.cells
    ]  # fmt: skip
    return report_html("Comparison", [Section(title, f"Scored by {grid.backbone}.", [as_picture(grid, title)], rows)])
