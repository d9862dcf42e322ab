"""The Compare tab: an XY grid with the scores under each picture, to be saved as one image or as HTML."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from studio.composition import MERGES
from studio.models.generation_request import GenerationRequest
from studio.models.sampling_settings import SamplingSettings
from training.jobs.variants import Training, Variants
from ui.services.named_concepts import names_written
from ui.services.scoring.comparison import OF_TRAININGS, Axis, Grid, both_values, caption, compare, missing, values_of
from ui.services.scoring.comparison_files import as_html, as_picture
from ui.services.snapshots import steps_of
from ui.services.workflow import Workflow
from ui.web import html
from ui.web.form_fields import control
from ui.web.tabs.events import FieldError, about, listen, problem_spot, result_spot
from ui.web.worker_supervisor import WorkerSupervisor

_PROGRESS = gr.Progress()  # Gradio finds it among the defaults, and gives each event one of its own
_EMPTY = (
    "Write a prompt and the values of one or two axes: every pair is generated from one seed, and scored. The axes "
    "adapter and rank compare trainings of the same pictures; what is not trained yet can be trained from here."
)
_COMMAS, _SEMICOLONS = "Separated by commas.", "Separated by semicolons."
_EXAMPLES: dict[Axis, str] = {
    "none": "",
    "prompt": "a photo of {}; {} in the snow",
    "concept": "rex, milo",
    "step": "40, 80, 120",
    "adapter": "spectral_additive, lora",
    "rank": "4, 8, 16",
    "merge method": ", ".join([*MERGES][:2]),
    "strength": "0.5, 1",
    "seed": "0, 1, 2",
    "num_inference_steps": "10, 20, 40",
    "guidance_scale": "2, 4, 8",
    "scheduler": "ddim, euler, unipc",
}


def compare_tab(workflow: Workflow, hands: WorkerSupervisor) -> None:
    """Fills the tab."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            form = _form(workflow)
            generate = gr.Button("Compare", variant="primary")
            problem = problem_spot()
            message = gr.HTML(elem_classes="spot", elem_id="compare-message")
            train = gr.Button("Train what is missing", visible=False)
        with gr.Column(scale=3, min_width=320):
            shown = result_spot(_EMPTY, "compared")
            with gr.Row():
                image = gr.DownloadButton("Save as an image", visible=False, size="sm")
                page = gr.DownloadButton("Save as HTML", visible=False, size="sm")

    def run(text: str, progress: Any = _PROGRESS, *given: Any) -> Iterator[tuple[Any, ...]]:
        asked = _asked(workflow, text, *given)
        wanted, waiting = _lacking(workflow, *asked)
        yield *[gr.skip()] * 3, "", gr.Button(visible=bool(wanted))
        _refuse_untrained(asked, wanted, waiting)
        for parts in _generated(workflow, *asked, progress):
            yield *parts, gr.skip(), gr.skip()

    def train_missing(*given: Any) -> tuple[str, Any]:
        wanted, waiting = _lacking(workflow, *_asked(workflow, *given))
        workflow.queue_trainings(wanted)
        hands.ensure_running()
        names = ", ".join([*waiting, *(training.name for training in wanted)])
        told = f"{names}: in the queue. The tab Train shows when all is done." if names else "Nothing is missing."
        return html.note(told, "good"), gr.Button(visible=False)

    listen(generate.click, run, form, [shown, image, page, message, train], problem, model=True, form="compare",
           show_progress_on=[shown])  # fmt: skip
    listen(train.click, train_missing, form, [message, train], problem, form="compare")


def _asked(
    workflow: Workflow,
    text: str,
    x: Axis,
    xs: str,
    y: Axis,
    ys: str,
    seed: int,
    num_inference_steps: int,
    guidance_scale: float,
) -> tuple[GenerationRequest, tuple[Axis, str], tuple[Axis, str]]:
    """What the controls ask for."""
    if not text.strip() and "prompt" not in (x, y):
        raise FieldError("compare-prompt", "The prompt is empty. Write what is to be compared.")
    axes: list[tuple[str, Axis, str]] = [("compare-across", x, xs), ("compare-down", y, ys)]
    for field, axis, values in axes:
        with about(field):
            given = values_of(axis, values)
            for name in given if axis == "concept" else ():
                workflow.library.concept(name.strip("<>"))
    with about("compare-down"):
        both_values((x, xs), (y, ys))
    request = GenerationRequest(
        prompt=text.strip(), num_images=1, seed=seed, num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
    )  # fmt: skip
    return request.with_defaults(workflow.family), (x, xs), (y, ys)


def _form(workflow: Workflow) -> list[Any]:
    """Prompt, both axes with their values, seed, steps and guidance."""
    prompt = gr.Textbox(
        label="Prompt", lines=2, placeholder="a photo of {} on the beach", elem_id="compare-prompt",
        info="{} is replaced by each concept of an axis; <name> stays in every prompt.",
    )  # fmt: skip
    axes = [*_axis(workflow, prompt, "Across", "concept"), *_axis(workflow, prompt, "Down", "strength")]
    with gr.Row():
        names = ("seed", "num_inference_steps", "guidance_scale")
        labels = {"num_inference_steps": {"label": "Steps"}}
        usual = SamplingSettings().with_defaults(workflow.family)
        values = {name: {"value": getattr(usual, name)} for name in names if name in SamplingSettings.model_fields}
        others = [
            control(GenerationRequest, name, "compare", min_width=80, **labels.get(name, {}), **values.get(name, {}))
            for name in names
        ]
    return [prompt, *axes, *others]


def _axis(workflow: Workflow, prompt: gr.Textbox, label: str, axis: Axis) -> tuple[gr.Dropdown, gr.Textbox]:
    """What varies along an axis, and its values."""
    with gr.Row():
        kind = gr.Dropdown(list(get_args(Axis)), value=axis, label=label, info="What varies.", min_width=100)
        values = gr.Textbox(
            label=f"{label}: values", placeholder=_EXAMPLES[axis], max_lines=1, min_width=140,
            info=_COMMAS, elem_id=f"compare-{label.lower()}",
        )  # fmt: skip

    def chosen(axis: Axis, text: str) -> Any:
        info = _SEMICOLONS if axis == "prompt" else _COMMAS
        there_are = _trained_with(workflow, axis, text) if axis in (*OF_TRAININGS, "step") else ""
        return gr.Textbox(there_are, info=info, placeholder=_EXAMPLES[axis], interactive=axis != "none")

    listen(kind.select, chosen, [kind, prompt], [values])
    return kind, values


def _trained_with(workflow: Workflow, axis: Axis, prompt: str) -> str:
    """The adapters or ranks with which the pictures of what a prompt names were trained, or its snapshots' steps."""
    found = workflow.library.find_concepts(names_written(prompt), details=True)
    if axis == "step":
        return ", ".join(map(str, sorted({step for each in found if each.result for step in steps_of(each)})))
    variants = Variants(workflow.library, workflow.family)
    known = [concept.name for concept in found]
    results = [each.result for name in known for each in variants.of(name) if each.result]
    return ", ".join(map(str, sorted({getattr(result, axis) for result in results})))


def _lacking(
    workflow: Workflow, request: GenerationRequest, across: tuple[Axis, str], down: tuple[Axis, str]
) -> tuple[list[Training], list[str]]:
    """The trainings that the axes ask for and the library lacks: those to be queued, and the names of those in it."""
    with about("compare-prompt"):
        lacking = missing(workflow, request, across, down)
    jobs = workflow.library.jobs.newest([training.name for training in lacking])
    waiting = [job.concept for job in jobs.values() if job.unfinished]
    return [training for training in lacking if training.name not in waiting], waiting


def _refuse_untrained(asked: tuple[Any, tuple[Axis, str], Any], wanted: list[Training], waiting: list[str]) -> None:
    """Raises FieldError, beside the axis of trainings, where any is missing."""
    field = "compare-across" if asked[1][0] in OF_TRAININGS else "compare-down"
    if wanted:
        names = ", ".join(training.name for training in wanted)
        raise FieldError(field, f"{names} is not trained yet. Train it first.")
    if waiting:
        raise FieldError(
            field, f"{', '.join(waiting)} is still being trained. Wait until the tab Train shows that it is done."
        )


def _generated(
    workflow: Workflow, request: GenerationRequest, across: tuple[Axis, str], down: tuple[Axis, str], progress: Any
) -> Iterator[tuple[Any, ...]]:
    """The grid after each picture, and in the end both files."""
    columns, rows = both_values(across, down)
    total = len(columns) * len(rows) * request.num_inference_steps
    done = iter(range(1, total + 1))
    grid: Grid | None = None
    for grid in compare(workflow, request, across, down, lambda: progress((next(done), total), unit="steps")):
        yield html.comparison(grid, caption), gr.skip(), gr.skip()
    assert grid is not None, "both axes have a value"
    yield html.comparison(grid, caption), *_saved(grid, request.prompt)


def _saved(grid: Grid, title: str) -> tuple[gr.DownloadButton, gr.DownloadButton]:
    """Both files, in the page's own folder of temporary ones."""
    folder = Path(tempfile.mkdtemp())
    as_picture(grid, title).save(folder / "comparison.png")
    (folder / "comparison.html").write_text(as_html(grid, title), encoding="utf-8")
    return (
        gr.DownloadButton(value=folder / "comparison.png", visible=True),
        gr.DownloadButton(value=folder / "comparison.html", visible=True),
    )
