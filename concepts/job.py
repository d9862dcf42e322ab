"""A job, and the order that made it, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from concepts.columns.allocation import Space
from concepts.tables import JobRecord, JobState

UNFINISHED: tuple[JobState, ...] = ("queued", "running")
COUNTED: tuple[JobState, ...] = (*UNFINISHED, "done", "failed", "cancelled")


@dataclass(frozen=True)
class Columns:
    """The singular columns (or basis rows) that a training needs: `width` of `capacity`, the lowest free ones or those
    from `start`.
    """

    width: int
    capacity: int
    start: int | None = None
    space: Space = "columns"


@dataclass(frozen=True)
class Order:
    """One training to queue: a concept of the library, by name, and everything that determines the result.

    `base` is how a worker finds the base model, and `fingerprint` is what that base must have. Higher
    priorities are leased first; a job that fails, or whose worker dies, is tried `max_attempts` times in all.
    """

    concept: str
    base: str
    fingerprint: str
    recipe: Mapping[str, Any]
    columns: Columns | None = None
    priority: int = 0
    max_attempts: int = 3


@dataclass(frozen=True)
class Job:
    """A job as it was when it was read; times are in UTC. `loss` is the last one, None before the first step.

    `seconds_per_step` is the mean since its worker's first report, None before the second.
    """

    id: str
    concept_id: str
    concept: str
    owner: str
    batch: str | None
    base: str
    fingerprint: str
    recipe: dict[str, Any]
    first_column: int
    state: JobState
    priority: int
    attempts: int
    max_attempts: int
    worker: str | None
    step: int
    steps: int
    seconds_per_step: float | None
    loss: float | None
    error: str | None
    created: datetime
    started: datetime | None
    ended: datetime | None
    result_id: str | None

    @property
    def unfinished(self) -> bool:
        """Whether the job is queued or running."""
        return self.state in UNFINISHED


def job_of(record: JobRecord) -> Job:
    """The public form of a job's record."""
    return Job(
        id=record.id, concept_id=record.concept_id, concept=record.concept.name, owner=record.owner, batch=record.batch,
        base=record.base, fingerprint=record.fingerprint, recipe=record.recipe,
        first_column=record.columns["start"] if record.columns else 0, state=record.state,
        priority=-record.nice, attempts=record.attempts, max_attempts=record.max_attempts, worker=record.worker,
        step=record.step, steps=record.steps, seconds_per_step=record.seconds_per_step, loss=record.loss,
        error=record.error, created=record.created, started=record.started, ended=record.ended,
        result_id=record.result_id,
    )  # fmt: skip
