"""Leases: a worker holds a job exclusively, and loses it when it does not renew in time."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import CursorResult, Select, Update, select, update
from sqlalchemy.orm import Session

from concepts.database import Database, now
from concepts.errors import LibraryError
from concepts.job import Job
from concepts.tables import ConceptRecord, JobRecord

LEASE_SECONDS = 60.0
Chosen = TypeVar("Chosen", Select, Update)


class LeaseLostError(LibraryError):
    """Another worker has the job, or it was cancelled: this worker must stop, and its result is discarded."""


class Lease:
    """One worker's lease of one job, until it is finished, failed, returned to the queue, or lost.

    Everything but `alive` raises LeaseLostError when the job is no longer this worker's.
    """

    def __init__(self, database: Database, job: Job, worker: str, seconds: float):
        self.job, self.seconds = job, seconds
        self._database, self._worker = database, worker
        self._first_report: tuple[int, datetime] | None = None

    def alive(self) -> bool:
        """Whether the job is still this worker's; it is not when it was cancelled."""
        with self._database.reading() as session:
            return session.scalar(self._mine(select(JobRecord.id))) is not None

    def renew(self) -> None:
        """Extends the lease by `seconds` from now."""
        with self._database.writing() as session:
            until = now(session) + timedelta(seconds=self.seconds)
            self._change(session, lease_until=until)

    def report(self, step: int, steps: int, losses: Sequence[float]) -> None:
        """Stores the training's progress, with the loss of every step so far, and renews the lease."""
        with self._database.writing() as session:
            moment = now(session)
            last = losses[-1] if losses else None
            self._change(
                session, step=step, steps=steps, loss=last, losses=list(losses),
                seconds_per_step=self._seconds_per_step(step, moment),
                lease_until=moment + timedelta(seconds=self.seconds),
            )  # fmt: skip

    def _seconds_per_step(self, step: int, moment: datetime) -> float | None:
        """The mean since the first report, which comes after getting ready; None for that one."""
        if self._first_report is None:
            self._first_report = step, moment
        first, since = self._first_report
        return (moment - since).total_seconds() / (step - first) if step > first else None

    def finish(self, session: Session, result_id: str) -> None:
        """Ends the job in the transaction that stores its result, so that both happen or neither."""
        self._change(
            session, state="done", worker=None, lease_until=None, ended=now(session), result_id=result_id, error=None
        )

    def fail(self, error: str, again: bool = True) -> None:
        """Ends the job with this sentence, or queues it again if it may be tried again and attempts are left."""
        with self._database.writing() as session:
            if again and self.job.attempts < self.job.max_attempts:
                self._change(session, state="queued", worker=None, lease_until=None, error=error)
            else:
                self._change(session, state="failed", worker=None, lease_until=None, error=error, ended=now(session))

    def return_to_queue(self) -> None:
        """Queues the job again without counting an attempt; the next worker resumes from its checkpoint."""
        with self._database.writing() as session:
            self._change(session, state="queued", worker=None, lease_until=None, attempts=JobRecord.attempts - 1)

    def _change(self, session: Session, **values: object) -> None:
        changed: CursorResult[Any] = session.execute(self._mine(update(JobRecord)).values(**values))  # pyright: ignore
        if changed.rowcount != 1:
            raise LeaseLostError(
                f'This worker no longer has the job of "{self.job.concept}": it was cancelled, or another worker '
                "took it over."
            )

    def _mine(self, statement: Chosen) -> Chosen:
        return statement.where(
            JobRecord.id == self.job.id, JobRecord.worker == self._worker, JobRecord.state == "running"
        )


def concept_of_job(session: Session, job: Job) -> ConceptRecord:
    """The concept that a job trains, also after a rename; it is locked until the transaction ends.

    Raises LeaseLostError when it was removed.
    """
    record = session.get(ConceptRecord, job.concept_id, with_for_update=True)
    if record is None:
        raise LeaseLostError(f'"{job.concept}" was removed during its training, so the result is discarded.')
    return record


def claim_next_job(session: Session, worker: str, seconds: float) -> JobRecord | None:
    """The next job, marked as this worker's; what `Jobs.lease` promises, in a transaction that may write."""
    moment = now(session)
    while record := _lost(session, moment) or _queued(session):
        if record.attempts >= record.max_attempts:
            record.state, record.worker, record.lease_until, record.ended = "failed", None, None, moment
            record.error = f"Its worker died {record.attempts} times: look for the reason, then run studio jobs retry."
            session.flush()
            continue
        record.state, record.attempts = "running", record.attempts + 1
        record.worker = f"{worker[:96]}/{secrets.token_hex(8)}"  # unlike any earlier lease of this worker
        record.lease_until, record.started = moment + timedelta(seconds=seconds), record.started or moment
        session.flush()
        return record
    return None


def _lost(session: Session, moment: datetime) -> JobRecord | None:
    """The running job whose lease expired first."""
    lost = select(JobRecord).where(JobRecord.state == "running", JobRecord.lease_until < moment)
    return _first_free(session, lost.order_by(JobRecord.lease_until))


def _queued(session: Session) -> JobRecord | None:
    queued = select(JobRecord).where(JobRecord.state == "queued")
    return _first_free(session, queued.order_by(JobRecord.nice, JobRecord.created, JobRecord.id))


def _first_free(session: Session, query: Select[JobRecord]) -> JobRecord | None:
    """The first row that no other transaction has locked."""
    return session.scalars(query.limit(1).with_for_update(of=JobRecord, skip_locked=True)).first()
