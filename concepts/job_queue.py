"""The queue of trainings: queued, running and finished jobs."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.orm import Session, defer

from concepts.columns.allocation import allocate, block_of, restore_block
from concepts.concept import plain
from concepts.database import Database, advisory_lock, now
from concepts.errors import LibraryError
from concepts.job import COUNTED, UNFINISHED, Columns, Job, Order, job_of
from concepts.job_leases import LEASE_SECONDS, Lease, claim_next_job
from concepts.names import chosen_by_name, find
from concepts.tables import ConceptRecord, JobRecord, JobState, new_id


class Jobs:
    """The jobs of one library; `Library.jobs` has it. Every method raises LibraryError for input that it rejects."""

    def __init__(self, database: Database):
        self._database = database

    def queue(self, orders: Sequence[Order], owner: str = "", batch: str | None = None) -> list[Job]:
        """Queues trainings, all or none. Columns are allocated here, in this order, whatever the order of training.

        A concept can wait for one training at a time.
        """
        with self._database.writing() as session:
            created = now(session)
            advisory_lock(session, "queue")
            # One microsecond apart, which keeps their order
            times = (created + timedelta(microseconds=place) for place in range(len(orders)))
            records = [_queued(session, order, at) for order, at in zip(orders, times, strict=True)]
            for record in records:
                record.owner, record.batch = owner, batch
            session.flush()
            return [job_of(record) for record in records]

    def refuse_waiting(self, name: str) -> None:
        """Raises LibraryError for a concept that is in the queue."""
        with self._database.reading() as session:
            _refuse_unfinished(session, find(session, name))

    def job(self, identifier: str) -> Job:
        """The job of this identifier, or of the only one that begins so."""
        with self._database.reading() as session:
            return job_of(_find(session, identifier))

    def losses(self, identifier: str) -> list[float]:
        """The loss of every step that was reported so far."""
        with self._database.reading() as session:
            return _find(session, identifier).losses

    def page(
        self,
        limit: int = 50,
        after: str | None = None,
        states: Sequence[JobState] = (),
        owner: str | None = None,
        batch: str | None = None,
    ) -> list[Job]:
        """At most `limit` jobs, newest first; `after` is the identifier of the last job of the previous page."""
        place = tuple_(JobRecord.created, JobRecord.id)
        query = (
            select(JobRecord).options(defer(JobRecord.losses)).order_by(JobRecord.created.desc(), JobRecord.id.desc())
        )
        query = query.where(*_chosen(states, owner, batch)).limit(limit)
        with self._database.reading() as session:
            if after is not None:
                last = _find(session, after)
                query = query.where(place < tuple_(last.created, last.id))
            return [job_of(record) for record in session.scalars(query)]

    def newest(self, names: Sequence[str]) -> dict[str, Job]:
        """The newest job of each of these concepts that has any, by the concept's identifier."""
        query = select(JobRecord).options(defer(JobRecord.losses)).order_by(JobRecord.created, JobRecord.id)
        with self._database.reading() as session:
            records = chosen_by_name(session, query.join(ConceptRecord), names)
            return {record.concept_id: job_of(record) for record in records}

    def counts(self, owner: str | None = None, batch: str | None = None) -> dict[JobState, int]:
        """How many jobs are in each state."""
        query = select(JobRecord.state, func.count()).where(*_chosen((), owner, batch)).group_by(JobRecord.state)
        with self._database.reading() as session:
            found = {row[0]: row[1] for row in session.execute(query)}
        return {state: found.get(state, 0) for state in COUNTED}

    def unfinished(self, most: int = 1, states: Sequence[JobState] = UNFINISHED) -> int:
        """How many jobs are queued or running, counted up to `most`, so that a long queue is not read to its end."""
        found = 0
        with self._database.reading() as session:
            for state in states:  # one by one: an index has the jobs of each
                ids = select(JobRecord.id).where(JobRecord.state == state).limit(most - found)
                found += session.scalars(select(func.count()).select_from(ids.subquery())).one()
        return found

    def last_heartbeat(self) -> datetime | None:
        """When the newest lease expires; it moves on while any worker renews its lease."""
        with self._database.reading() as session:
            held = select(func.max(JobRecord.lease_until)).where(JobRecord.state == "running")
            return session.scalar(held)

    def lease(self, worker: str, seconds: float = LEASE_SECONDS) -> Lease | None:
        """Claims a job: one whose lease expired, else by priority, then first in, first out; None if there is none.

        No two workers get the same one. The lease expires unless it is renewed within `seconds`.
        """
        with self._database.writing() as session:
            record = claim_next_job(session, worker, seconds)
            return record and Lease(self._database, job_of(record), str(record.worker), seconds)

    def cancel(self, identifier: str) -> Job:
        """Cancels a job, which stops its worker within a step, and releases its columns."""
        with self._database.writing() as session:
            record = _find(session, identifier, lock=True)
            if record.state == "done":
                raise LibraryError(f'The training of "{record.concept.name}" is done and cannot be cancelled.')
            cancel_record(session, record)
            session.flush()
            return job_of(record)

    def retry(self, identifier: str) -> Job:
        """Queues a failed or cancelled job again; it resumes from its last checkpoint if its columns are still free."""
        with self._database.writing() as session:
            record = _find(session, identifier, lock=True)
            if record.state not in ("failed", "cancelled"):
                raise LibraryError(
                    f'The training of "{record.concept.name}" is {record.state}. Only a failed or cancelled one can '
                    "be queued again."
                )
            _refuse_unfinished(session, record.concept)
            if record.state == "cancelled":
                _allocate_again(session, record)
            record.state, record.attempts, record.error, record.ended = "queued", 0, None, None
            session.flush()
            return job_of(record)


def cancel_record(session: Session, record: JobRecord) -> None:
    """Cancels a job that is not done, in a transaction that may write."""
    if record.columns and record.state != "cancelled":
        _release_columns(session, record, record.columns)
    record.state, record.worker, record.lease_until, record.ended = "cancelled", None, None, now(session)


def cancel_unfinished(session: Session, concept: ConceptRecord) -> None:
    """Cancels the queued or running job of a concept."""
    for record in session.scalars(select(JobRecord).where(_waiting(concept)).with_for_update(of=JobRecord)):
        cancel_record(session, record)


def _queued(session: Session, order: Order, created: datetime) -> JobRecord:
    concept = find(session, order.concept)
    _refuse_unfinished(session, concept)
    record = JobRecord(
        id=new_id(), concept=concept, base=order.base, fingerprint=order.fingerprint, recipe=plain(order.recipe),
        columns=order.columns and _allocated(session, concept, order.fingerprint, order.columns),
        nice=-order.priority, attempts=0, max_attempts=order.max_attempts, state="queued", step=0,
        steps=order.recipe.get("steps", 0), losses=[], created=created,
    )  # fmt: skip
    session.add(record)
    session.flush()  # the next one of the same orders must see it
    return record


def _allocated(session: Session, concept: ConceptRecord, base: str, wanted: Columns) -> dict[str, Any]:
    before = block_of(session, concept, base, wanted.space)
    block = allocate(session, concept, base, wanted.width, wanted.capacity, wanted.start, wanted.space)
    held = before and [before.start, before.width]
    return {"space": wanted.space, "start": block.start, "width": block.width, "capacity": wanted.capacity,
            "before": held}  # fmt: skip


def _allocate_again(session: Session, record: JobRecord) -> None:
    if record.columns is not None:
        old = record.columns
        wanted = Columns(old["width"], old["capacity"], space=old["space"])
        record.columns = _allocated(session, record.concept, record.fingerprint, wanted)


def _release_columns(session: Session, record: JobRecord, columns: Mapping[str, Any]) -> None:
    """Restores the concept's former columns, unless a result was stored since that uses the job's columns."""
    concept = record.concept
    held = block_of(session, concept, record.fingerprint, columns["space"])
    trained_since = concept.result is not None and concept.result.created > record.created
    if held and (held.start, held.width) == (columns["start"], columns["width"]) and not trained_since:
        restore_block(session, concept, record.fingerprint, columns["before"], columns["space"])


def _refuse_unfinished(session: Session, concept: ConceptRecord) -> None:
    waiting = session.scalars(select(JobRecord.id).where(_waiting(concept))).first()
    if waiting is not None:
        raise LibraryError(
            f'"{concept.name}" is already in the queue. Wait for it, or run studio jobs cancel {waiting[:8]} first.'
        )


def _waiting(concept: ConceptRecord) -> ColumnElement[bool]:
    return (JobRecord.concept_id == concept.id) & JobRecord.state.in_(UNFINISHED)


def _chosen(states: Sequence[JobState], owner: str | None, batch: str | None) -> list[ColumnElement[bool]]:
    asked = [(JobRecord.owner, owner), (JobRecord.batch, batch)]
    conditions: list[ColumnElement[bool]] = [column == value for column, value in asked if value is not None]
    return [*conditions, JobRecord.state.in_(states)] if states else conditions


def _find(session: Session, identifier: str, lock: bool = False) -> JobRecord:
    """The job whose identifier begins so. Raises LibraryError when it is none, or more than one."""
    begins = JobRecord.id >= identifier, JobRecord.id < identifier + "g"  # after every hexadecimal digit
    query = select(JobRecord).where(*begins).order_by(JobRecord.id).limit(2)
    found = session.scalars(query.with_for_update(of=JobRecord) if lock else query).all()
    if len(found) != 1 or not identifier:
        how_many = "Several jobs begin" if found else "No job begins"
        raise LibraryError(
            f'{how_many} with "{identifier}". Give more characters of an identifier that studio jobs list shows.'
        )
    return found[0]
