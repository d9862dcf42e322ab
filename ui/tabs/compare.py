"""The Compare tab: an XY grid with the scores under each picture, to be saved as one image or as HTML."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from ui import fragments
from ui.comparing import Axis, Grid, as_html, as_picture, caption, compare, values_of
from ui.controls import control
from ui.request import PaintRequest
from ui.tabs.events import FieldError, listen, problem_spot, result_spot
from ui.workflow import Workflow

_PROGRESS = gr.Progress()  # Gradio finds it among the defaults, and gives each event one of its own
_EMPTY = (
    "Write a prompt and the values of one or two axes: every pair is painted from one seed, and scored. Train a "
    "concept twice, under two names, to compare adapters or ranks."
)
_AXES = list(get_args(Axis))


def compare_tab(workflow: Workflow) -> None:
    """Fills the tab."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            prompt = gr.Textbox(
                label="Prompt", lines=2, placeholder="a photo of {} on the beach", elem_id="compare-prompt",
                info="{} is where the concepts of an axis stand; <name> stands everywhere.",
            )  # fmt: skip
            across = _axis("Across", "concept", "rex, milo")
            down = _axis("Down", "strength", "0.5, 1")
            with gr.Row():
                seed = control(PaintRequest, "seed", "compare", min_width=80)
                steps = control(PaintRequest, "steps", "compare", min_width=80)
                guidance = control(PaintRequest, "guidance", "compare", min_width=80)
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
        if not text.strip():
            raise FieldError("compare-prompt", "Write a prompt first: what is to be compared?")
        request = PaintRequest(prompt=text.strip(), number=1, seed=seed, steps=steps, guidance=guidance)
        total = len(values_of(x, xs)) * len(values_of(y, ys)) * request.steps
        done = iter(range(1, total + 1))
        grid: Grid | None = None
        for grid in compare(workflow, request, (x, xs), (y, ys), lambda: progress((next(done), total), unit="steps")):
            yield fragments.comparison(grid, caption), gr.skip(), gr.skip()
        assert grid is not None, "both axes have a value"
        yield fragments.comparison(grid, caption), *_saved(grid, request.prompt)

    inputs = [prompt, *across, *down, seed, steps, guidance]
    listen(paint.click, run, inputs, [shown, image, page], problem, model=True, form="compare",
           show_progress_on=[shown])  # fmt: skip


def _axis(label: str, axis: Axis, example: str) -> tuple[gr.Dropdown, gr.Textbox]:
    with gr.Row():
        kind = gr.Dropdown(_AXES, value=axis, label=label, min_width=100)
        values = gr.Textbox(label=f"{label}: values", placeholder=example, max_lines=1, min_width=140,
                            elem_id=f"compare-{label.lower()}")  # fmt: skip
    return kind, values


def _saved(grid: Grid, title: str) -> tuple[gr.DownloadButton, gr.DownloadButton]:
    """Both files, in the page's own folder of temporary ones."""
    folder = Path(tempfile.mkdtemp())
    as_picture(grid, title).save(folder / "comparison.png")
    (folder / "comparison.html").write_text(as_html(grid, title), encoding="utf-8")
    return (
        gr.DownloadButton(value=folder / "comparison.png", visible=True),
        gr.DownloadButton(value=folder / "comparison.html", visible=True),
    )
