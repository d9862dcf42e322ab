"""The Compare tab: an XY grid with the scores under each picture, to be saved as one image or as HTML."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from studio.composition import MERGES
from ui import fragments
from ui.comparing import Axis, Grid, as_html, as_picture, caption, compare, values_of
from ui.controls import control
from ui.request import PaintRequest
from ui.tabs.events import FieldError, about, listen, problem_spot, result_spot
from ui.workflow import Workflow

_PROGRESS = gr.Progress()  # Gradio finds it among the defaults, and gives each event one of its own
_EMPTY = (
    "Write a prompt and the values of one or two axes: every pair is painted from one seed, and scored. To compare "
    "methods of training or ranks, train a concept twice, under two names."
)
_COMMAS, _SEMICOLONS = "Separated by commas.", "Separated by semicolons."
_EXAMPLES: dict[Axis, str] = {
    "none": "",
    "prompt": "a photo of {}; {} in the snow",
    "concept": "rex, milo",
    "merge method": ", ".join([*MERGES][:2]),
    "strength": "0.5, 1",
    "seed": "0, 1, 2",
    "steps": "10, 20, 40",
    "guidance": "2, 4, 8",
}


def compare_tab(workflow: Workflow) -> None:
    """Fills the tab."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            form = _form()
            paint = gr.Button("Compare", variant="primary")
            problem = problem_spot()
        with gr.Column(scale=3, min_width=320):
            shown = result_spot(_EMPTY, "compared")
            with gr.Row():
                image = gr.DownloadButton("Save as an image", visible=False, size="sm")
                page = gr.DownloadButton("Save as HTML", visible=False, size="sm")

    def run(
        text: str, x: Axis, xs: str, y: Axis, ys: str, seed: int, steps: int, guidance: float,
        progress: Any = _PROGRESS,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        if not text.strip() and "prompt" not in (x, y):
            raise FieldError("compare-prompt", "Write a prompt first: what is to be compared?")
        request = PaintRequest(prompt=text.strip(), number=1, seed=seed, steps=steps, guidance=guidance)
        yield from _painted(workflow, request, (x, xs), (y, ys), progress)

    listen(paint.click, run, form, [shown, image, page], problem, model=True, form="compare",
           show_progress_on=[shown])  # fmt: skip


def _form() -> list[Any]:
    """Prompt, both axes with their values, seed, steps and guidance."""
    prompt = gr.Textbox(
        label="Prompt", lines=2, placeholder="a photo of {} on the beach", elem_id="compare-prompt",
        info="{} is where the concepts of an axis stand; <name> stands everywhere.",
    )  # fmt: skip
    axes = [*_axis("Across", "concept"), *_axis("Down", "strength")]
    with gr.Row():
        others = [control(PaintRequest, name, "compare", min_width=80) for name in ("seed", "steps", "guidance")]
    return [prompt, *axes, *others]


def _axis(label: str, axis: Axis) -> tuple[gr.Dropdown, gr.Textbox]:
    """What varies along an axis, and its values."""
    with gr.Row():
        kind = gr.Dropdown(list(get_args(Axis)), value=axis, label=label, info="What varies.", min_width=100)
        values = gr.Textbox(
            label=f"{label}: values", placeholder=_EXAMPLES[axis], max_lines=1, min_width=140,
            info=_COMMAS, elem_id=f"compare-{label.lower()}",
        )  # fmt: skip

    def chosen(axis: Axis) -> Any:
        info = _SEMICOLONS if axis == "prompt" else _COMMAS
        return gr.Textbox("", info=info, placeholder=_EXAMPLES[axis], interactive=axis != "none")

    listen(kind.input, chosen, [kind], [values])
    return kind, values


def _painted(
    workflow: Workflow, request: PaintRequest, across: tuple[Axis, str], down: tuple[Axis, str], progress: Any
) -> Iterator[tuple[Any, ...]]:
    """The grid after each picture, and in the end both files."""
    with about("compare-across"):
        columns = values_of(*across)
    with about("compare-down"):
        rows = values_of(*down)
    total = len(columns) * len(rows) * request.steps
    done = iter(range(1, total + 1))
    grid: Grid | None = None
    for grid in compare(workflow, request, across, down, lambda: progress((next(done), total), unit="steps")):
        yield fragments.comparison(grid, caption), gr.skip(), gr.skip()
    assert grid is not None, "both axes have a value"
    yield fragments.comparison(grid, caption), *_saved(grid, request.prompt)


def _saved(grid: Grid, title: str) -> tuple[gr.DownloadButton, gr.DownloadButton]:
    """Both files, in the page's own folder of temporary ones."""
    folder = Path(tempfile.mkdtemp())
    as_picture(grid, title).save(folder / "comparison.png")
    (folder / "comparison.html").write_text(as_html(grid, title), encoding="utf-8")
    return (
        gr.DownloadButton(value=folder / "comparison.png", visible=True),
        gr.DownloadButton(value=folder / "comparison.html", visible=True),
    )
