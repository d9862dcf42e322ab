"""Trains the demo's concepts side by side, each in a worker process of its own.

A training gains little from a second CPU thread, since its operations are small, so two processes of one thread each
are nearly twice as fast as one training after the other with two.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich.progress import Progress as Bar

from concepts import Job
from concepts.errors import StudioError
from concepts.job import UNFINISHED
from training.config.recipe import Recipe
from training.jobs.executors import LocalExecutor
from ui.services.workflow import Workflow

BATCH, PRIORITY = "demo", 1000
"""The batch of the demo's jobs, and their priority: above that of others in a library of one's own."""


@dataclass(frozen=True)
class Training:
    """The losses of every step of a training, and the seconds that it took with preparation and previews."""

    losses: list[float]
    seconds: float


def train_side_by_side(workflow: Workflow, names: Sequence[str], recipe: Recipe, bar: Bar) -> dict[str, Training]:
    """Trains the concepts in as many processes as there are concepts and CPU cores, with a line of `bar` for each.

    Trainings that an earlier, interrupted run left in the queue are resumed. Raises StudioError for one that failed.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(len(names), cores)
    recipe = recipe.model_copy(update={"threads": recipe.threads or cores // workers})
    jobs = {job.concept: job for job in workflow.library.jobs.page(states=UNFINISHED, batch=BATCH)}  # interrupted
    missing = [name for name in names if name not in jobs]
    jobs |= {job.concept: job for job in workflow.queue(missing, recipe, priority=PRIORITY, batch=BATCH)}
    tasks = {name: bar.add_task(f"training {name}", total=None, note="") for name in names}

    def show() -> None:
        for name, job in _present(workflow, jobs).items():
            bar.update(tasks[name], completed=job.step, total=job.steps if job.step else None, note=_note(job))

    LocalExecutor(workers, batch=BATCH)(workflow.library, show)
    ended = _present(workflow, jobs)
    if failed := next((job for job in ended.values() if job.state != "done"), None):
        raise StudioError(
            f"The training of {failed.concept} is {failed.state}. {failed.error or 'Run the demo again.'}"
        )
    return {name: Training(workflow.library.jobs.losses(job.id), _seconds(job)) for name, job in ended.items()}


def _present(workflow: Workflow, jobs: dict[str, Job]) -> dict[str, Job]:
    return {name: workflow.library.jobs.job(job.id) for name, job in jobs.items()}


def _note(job: Job) -> str:
    if job.state == "queued":
        return "waiting"
    return "generating class images" if job.loss is None else f"loss {job.loss:.4f}"


def _seconds(job: Job) -> float:
    assert job.started, "a finished job has started"
    assert job.ended, "and ended"
    return round((job.ended - job.started).total_seconds(), 1)
