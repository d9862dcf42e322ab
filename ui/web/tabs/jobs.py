"""The right half of the Train tab: the queue, the chosen training's curves and previews, and what came of it."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
import pandas as pd

from concepts import Concept, Job, LibraryError
from training.jobs.previews import stored_previews
from ui.services.workflow import Workflow
from ui.web import html
from ui.web.tabs.events import listen, problem_spot
from ui.web.worker_supervisor import WorkerSupervisor

SECONDS = 1.5
"""How often the page asks the database."""
_SHOWN = 20
_POINTS = 400
_EACH, _MEAN = "of each step", "mean of 20 steps"
_COLOURS = {_EACH: "#a8a49c", _MEAN: "#12a08a"}
_PREVIEWS = 6
_CLICKED = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-open], [data-cancel], [data-retry]');
  if (target) trigger('click', { ...target.dataset });
});
"""


def jobs_panel(workflow: Workflow, hands: WorkerSupervisor, page: gr.Blocks) -> None:
    """Fills the panel, and keeps it up to date."""
    chosen, seen = gr.State(""), gr.State(None)
    table = gr.HTML(js_on_load=_CLICKED, elem_id="jobs")
    problem = problem_spot()
    shown = [table, *_parts(), seen]

    def refresh(job: str, before: Any) -> list[Any]:
        hands.ensure_running()
        jobs = workflow.library.jobs.page(_SHOWN)
        now = [job, *((j.id, j.state, j.step, j.concept, j.attempts) for j in jobs)]
        return [gr.skip()] * len(shown) if now == before else [*_shown(workflow, jobs, job), now]

    def afresh(job: str) -> list[Any]:
        return refresh(job, None)

    def click(job: str, event: gr.EventData) -> list[Any]:
        asked = event._data or {}
        if identifier := asked.get("cancel"):
            workflow.library.jobs.cancel(identifier)
        if identifier := asked.get("retry"):
            workflow.library.jobs.retry(identifier)
        job = asked.get("open") or asked.get("cancel") or asked.get("retry") or job
        return [job, *refresh(job, None)]

    listen(page.load, afresh, [chosen], shown)
    listen(gr.Timer(SECONDS).tick, refresh, [chosen, seen], shown)
    listen(table.click, click, [chosen], [chosen, *shown], problem)


def _parts() -> list[Any]:
    """What came of the chosen training, its curves and its previews."""
    return [
        gr.HTML(elem_classes="spot", elem_id="outcome"),
        gr.LinePlot(
            _frame([]), x="step", y="loss", label="Loss", title="Loss", show_label=False, color="kind", height=280,
            elem_id="curve", color_map=_COLOURS, color_title="loss", buttons=[], visible=False,
        ),
        gr.LinePlot(
            _aligned([]), x="step", y="image alignment", y_title="alignment", height=220, label="Image alignment",
            title="Image alignment of the previews", show_label=False, elem_id="alignment", buttons=[], visible=False,
        ),
        gr.HTML(elem_classes="spot", elem_id="previews"),
    ]  # fmt: skip


def _shown(workflow: Workflow, jobs: list[Job], wanted: str) -> list[Any]:
    """The list, and what is known of the wanted job, else of the one at work, else of the newest."""
    chosen = next((job for job in jobs if job.id == wanted), None)
    chosen = chosen or next((job for job in jobs if job.state == "running"), jobs[0] if jobs else None)
    if chosen is None:
        return [html.job_list([], "", words), "", *[gr.LinePlot(visible=False)] * 2, ""]
    concept, losses = _concept(workflow, chosen), workflow.library.jobs.losses(chosen.id)
    newest = next(job for job in jobs if job.concept_id == chosen.concept_id)
    kept = stored_previews(workflow.library.runs(concept)) if concept and newest.id == chosen.id else []
    previews = [preview for preview in kept if preview.step <= chosen.step]  # later ones are an earlier training's
    scored = [(preview.step, preview.alignment) for preview in previews if preview.alignment is not None]
    return [
        html.job_list(jobs, chosen.id, words),
        html.concept_outcome(concept) if concept and concept.result and chosen.state == "done" else "",
        gr.LinePlot(_frame(losses), visible=bool(losses)),
        gr.LinePlot(_aligned(scored), visible=len(scored) > 1),  # a single point is no line
        html.preview_list(previews[-_PREVIEWS:]),
    ]


def _concept(workflow: Workflow, job: Job) -> Concept | None:
    """The concept that a job trains, unless it was removed meanwhile."""
    try:
        return workflow.library.concept(job.concept)
    except LibraryError:
        return None


def _aligned(scored: Sequence[tuple[int, float]]) -> pd.DataFrame:
    return pd.DataFrame(scored, columns=["step", "image alignment"]).astype(float)


def _frame(losses: list[float]) -> pd.DataFrame:
    """The losses and their running mean as rows of a plot, thinned to what can be seen."""
    stride = max(1, len(losses) // _POINTS)
    means = pd.Series(losses, dtype=float).rolling(20, min_periods=1).mean().tolist()
    steps = range(1, len(losses) + 1, stride)
    rows = [(step, part[step - 1], kind) for kind, part in ((_EACH, losses), (_MEAN, means)) for step in steps]
    return pd.DataFrame(rows, columns=["step", "loss", "kind"]).astype({"step": float, "loss": float, "kind": str})


def words(job: Job) -> str:
    """Where a job stands, in words, with the time that is left."""
    if job.state != "running":
        return "waiting" if job.state == "queued" else job.state
    if not job.step:
        return "getting ready"
    if job.step == job.steps:
        return "generating previews"
    loss = "" if job.loss is None else f", loss {job.loss:.3f}"
    if job.seconds_per_step is None:
        return f"step {job.step} of {job.steps}{loss}"
    left = job.seconds_per_step * (job.steps - job.step)
    return f"step {job.step} of {job.steps}{loss}, about {_time(left)} left"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds <= 90 else f"{seconds / 60:.0f} min"
