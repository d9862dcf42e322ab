"""Workers on a queue, with a training that is a stand-in, and with a real one on the tiny base."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Semaphore
from typing import Any

import pytest
from PIL import Image
from sqlalchemy.orm import Session

from concepts import Job, Lease, Library, Order, UnavailableError
from concepts.database import Database
from concepts.errors import StudioError
from studio.models.base_model import Base
from training.config.recipe import Recipe
from training.engine.trainer import Progress, TrainingStopped
from training.jobs.library_training import order_of
from training.jobs.worker import Trainer, Worker

DETAILS = {"base": "abc", "adapter": "lora", "rank": 8, "parameters": 1}
STEPS = 5
RECIPE = Recipe(rank=4, steps=STEPS, batch_size=2, num_class_images=4, threads=1)


@pytest.fixture
def library(tmp_path) -> Library:
    """A library of the concepts a, b and c."""
    library = Library(tmp_path / "library")
    Image.new("RGB", (64, 64), "navy").save(tmp_path / "one.png")
    for name in "abc":
        library.add_concept(name, "dog", [tmp_path / "one.png"])
    return library


def queue(library: Library, names: str = "abc") -> list[Job]:
    return library.jobs.queue([Order(name, "none", "abc", {"steps": STEPS}) for name in names])


class QuickTrain:
    """A stand-in for training: steps that take no time, and a result of a few bytes."""

    def __init__(self, library: Library, at_step: Callable[[Lease, int], Any] = lambda lease, step: None):
        self.library, self.at_step, self.steps = library, at_step, []

    def __call__(self, lease: Lease, on_progress: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
        for step in range(1, STEPS + 1):
            if stop():
                raise TrainingStopped(step - 1, STEPS)
            self.at_step(lease, step)
            self.steps.append((lease.job.concept, step))
            on_progress(Progress(step, STEPS, 1 / step))
        self.library.store_result(lease.job.concept, lease.job.concept.encode(), DETAILS, None, lease)


def states(library: Library) -> dict[str, str]:
    return {job.concept: job.state for job in library.jobs.page()}


def test_a_worker_trains_all_jobs_and_ends_when_none_is_left(library):
    queue(library)
    events: list[str] = []
    assert Worker(library, QuickTrain(library), on_event=events.append).run(until_empty=True) == 3
    assert states(library) == dict.fromkeys("abc", "done")
    assert events[:2] == ["a: training", "a: done"]
    assert [concept.result and concept.result.path.read_bytes() for concept in library.concepts()] == [b"a", b"b", b"c"]
    job = library.jobs.page()[-1]
    assert (job.step, job.steps, job.loss) == (STEPS, STEPS, 1 / STEPS)
    assert library.jobs.losses(job.id) == [1 / step for step in range(1, STEPS + 1)]


def test_once_is_one_job(library):
    queue(library)
    assert Worker(library, QuickTrain(library)).run(once=True) == 1
    assert states(library) == {"a": "done", "b": "queued", "c": "queued"}


def test_cancelling_stops_within_a_step(library):
    first, _ = queue(library, "ab")

    def cancel(lease: Lease, step: int) -> None:
        if lease.job.id == first.id and step == 2:
            library.jobs.cancel(first.id)

    train = QuickTrain(library, cancel)
    events: list[str] = []
    Worker(library, train, on_event=events.append).run(until_empty=True)
    assert train.steps[:3] == [("a", 1), ("a", 2), ("b", 1)]
    assert events[1] == "a: abandoned: it was cancelled, or another worker has it"
    assert states(library) == {"a": "cancelled", "b": "done"}


def test_a_worker_that_is_stopped_returns_its_job_to_the_queue(library):
    queue(library)
    train = QuickTrain(library)
    Worker(library, train, stop=lambda: len(train.steps) >= 2).run()
    assert train.steps == [("a", 1), ("a", 2)]
    job = library.jobs.page()[-1]
    assert (job.concept, job.state, job.step, job.attempts, job.worker) == ("a", "queued", 2, 0, None)
    assert library.jobs.losses(job.id) == [1.0, 0.5]


@pytest.mark.parametrize(
    ("error", "attempts", "sentence"),
    [(StudioError("Choose another rank."), 1, "Choose another rank."), (MemoryError("gone"), 3, "MemoryError: gone")],
)
def test_a_failure_is_retried_unless_it_is_permanent(error, attempts, sentence, library, capsys):
    queue(library, "ab")

    def fail(lease: Lease, step: int) -> None:
        if lease.job.concept == "a":
            raise error

    Worker(library, QuickTrain(library, fail)).run(until_empty=True)
    job = library.jobs.page()[-1]
    assert (job.state, job.attempts, job.error) == ("failed", attempts, sentence)
    assert states(library)["b"] == "done"
    assert ("Traceback" in capsys.readouterr().err) == (attempts == 3)


def test_the_heartbeat_keeps_the_lease_of_a_slow_training(library, monkeypatch):
    queue(library, "a")
    beats, others = Semaphore(0), []
    renew = Lease.renew

    def renew_and_tell(lease: Lease) -> None:
        renew(lease)
        beats.release()

    def slow(lease: Lease, step: int) -> None:
        if step == 1:
            for _ in range(6):  # four to a lease
                assert beats.acquire(timeout=60)
        others.append(library.jobs.lease("another"))

    monkeypatch.setattr(Lease, "renew", renew_and_tell)
    Worker(library, QuickTrain(library, slow), seconds=1.5).run(until_empty=True)
    assert others == [None] * STEPS
    assert states(library) == {"a": "done"}


def test_a_worker_that_was_thought_dead_stores_nothing(library):
    queue(library, "a")
    taken: list[Lease] = []

    def sleep_too_long(lease: Lease, step: int) -> None:
        if step == STEPS and not taken:
            library.jobs.lease("w")  # none is free yet
            with library._database.writing() as session:
                session.connection().exec_driver_sql("UPDATE jobs SET lease_until = '2020-01-01 00:00:00'")
            taken.append(library.jobs.lease("another"))

    Worker(library, QuickTrain(library, sleep_too_long)).run(once=True)
    assert library.concept("a").result is None
    assert taken[0].alive()


def test_a_real_job_gives_the_same_file_as_training_at_once(library, base: Base, tmp_path):
    jobs = library.jobs.queue([order_of(base, name, RECIPE) for name in "ab"])
    assert [job.first_column for job in jobs] == [0, 4]
    Worker(library).run(until_empty=True)
    files = [library.concept(name).result.path.read_bytes() for name in "ab"]
    library.jobs.queue([order_of(base, "b", RECIPE)])
    Worker(library).run(once=True)
    assert library.concept("b").result.path.read_bytes() == files[1]
    assert files[0] != files[1]
    assert not (library.root / "checkpoints" / library.concept("b").id).exists()


def test_a_returned_job_is_resumed_and_ends_in_the_same_bytes(library, base: Base):
    library.jobs.queue([order_of(base, "a", RECIPE)])
    Worker(library).run(once=True)
    whole = library.concept("a").result.path.read_bytes()
    library.jobs.queue([order_of(base, "a", RECIPE)])
    done: list[int] = []
    train = Trainer(library)

    def until_the_third(lease: Lease, on_progress: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
        train(
            lease,
            lambda progress: (done.append(progress.step) if progress.loss else None, on_progress(progress))[1],
            stop,
        )

    Worker(library, until_the_third, stop=lambda: len(done) == 3).run()
    Worker(library, until_the_third).run(once=True)
    assert done == [1, 2, 3, 4, 5]
    assert library.concept("a").result.path.read_bytes() == whole
    assert len(library.jobs.losses(library.jobs.page()[0].id)) == STEPS


@pytest.mark.parametrize(("step", "attempts"), [(2, 1), (STEPS, 2)])
def test_a_database_that_is_away_for_a_moment_is_waited_for(library, monkeypatch, step: int, attempts: int):
    """A report is made up for by the next; a result that could not be stored is stored by another attempt."""
    queue(library, "a")
    events: list[str] = []
    refused = iter("")
    writing = Database.writing

    @contextmanager
    def flaky(database: Database) -> Iterator[Session]:
        if next(refused, None):
            raise UnavailableError("connection refused")
        with writing(database) as session:
            yield session

    def cut_off(lease: Lease, at: int) -> None:
        nonlocal refused
        if (lease.job.attempts, at) == (1, step):
            refused = iter("1" if step < STEPS else "12345")

    monkeypatch.setattr("training.jobs.worker.IDLE_SECONDS", 0.01)
    monkeypatch.setattr(Database, "writing", flaky)
    Worker(library, QuickTrain(library, cut_off), on_event=events.append, seconds=1).run(until_empty=True)
    job = library.jobs.page()[0]
    assert (job.state, job.attempts) == ("done", attempts)
    if attempts == 2:
        assert events[1:3] == ["a: left for another attempt. connection refused", "waiting. connection refused"]


def test_a_base_with_other_weights_is_refused(library, base: Base):
    order = order_of(base, "a", RECIPE)
    library.jobs.queue([Order(order.concept, order.base, "other weights", order.recipe)])
    Worker(library).run(until_empty=True)
    assert library.jobs.page()[0].error.endswith(
        "has other weights than when this training was queued. Queue it again."
    )


def test_a_removed_concept_ends_its_training(library):
    queue(library, "a")

    def remove(lease: Lease, step: int) -> None:
        if step == STEPS:
            library.remove_concept("a")

    Worker(library, QuickTrain(library, remove)).run(until_empty=True)
    assert library.jobs.page() == []
    assert list((library.root / "results").iterdir()) == []
