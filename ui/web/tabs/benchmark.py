"""A concept on DreamBench's prompts, in the Score tab."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from studio.models.families import Family
from studio.models.sampling_settings import SamplingSettings
from ui.services.scoring.dreambench import dreambench
from ui.services.workflow import Workflow
from ui.web import html
from ui.web.form_fields import control
from ui.web.tabs.events import MOST_LISTED, FieldError, about, listen, problem_spot, result_spot

_PROMPTS = 25
_PROGRESS = gr.Progress()  # Gradio finds it among the defaults, and gives each event one of its own
_EMPTY = (
    "Choose a trained concept: four pictures of each of DreamBench's 25 prompts are generated and scored, one prompt "
    "after the other. Other users can generate images meanwhile."
)


def benchmark_panel(workflow: Workflow, tab: gr.Tab, page: gr.Blocks) -> None:
    """Fills the panel."""
    with gr.Row(elem_id="benchmark"):
        with gr.Column(scale=2, min_width=320):
            fields = _fields(workflow.family)
            with gr.Row():
                run = gr.Button("Run the prompts", variant="primary", scale=3)
                stop = gr.Button("Stop", min_width=80, scale=1)
            problem = problem_spot()
        with gr.Column(scale=3, min_width=320):
            table = result_spot(_EMPTY, "benchmarked")

    def names() -> Any:
        return gr.Dropdown(
            [c.name for c in workflow.library.page(MOST_LISTED, newest=True, trained=True) if c.pictures]
        )

    def measured(
        name: str | None, num_inference_steps: int, guidance_scale: float, progress: Any = _PROGRESS
    ) -> Iterator[str]:
        if not name:
            raise FieldError(
                "benchmark-concept", "No trained concept is chosen. Choose one, or train one in the tab Train."
            )
        settings = SamplingSettings(num_inference_steps=num_inference_steps, guidance_scale=guidance_scale)
        progress((0, _PROMPTS), unit="prompts")
        with about("benchmark-concept"):
            for document in dreambench(workflow, name, settings=settings):
                progress((len(document["prompts"]), _PROMPTS), unit="prompts")
                yield html.benchmark_table(document)

    for trigger in (page.load, tab.select):
        listen(trigger, names, [], [fields[0]])
    event = listen(
        run.click, measured, fields, [table], problem, form="benchmark",
        concurrency_id="benchmark", concurrency_limit=1, show_progress="minimal", show_progress_on=[table],
    )  # fmt: skip
    stop.click(None, cancels=[event])


def _fields(family: Family) -> list[Any]:
    """Concept, steps and guidance, these two as the base's family has them."""
    usual = SamplingSettings().with_defaults(family)
    gr.Markdown("### DreamBench's prompts")
    concept = gr.Dropdown([], label="Concept", allow_custom_value=True, elem_id="benchmark-concept")
    with gr.Row():
        others = [
            control(SamplingSettings, name, "benchmark", min_width=80, value=getattr(usual, name))
            for name in ("num_inference_steps", "guidance_scale")
        ]
    return [concept, *others]
