"""Many jobs, several worker processes, and kill -9 at random moments."""

import random
from multiprocessing.connection import wait

import pytest
from PIL import Image

from concepts import Columns, Library, Order
from tests.training.jobs.worker_stress import STEPS, Started, started


def kill_while_they_work(library: Library, workers: int, kills: int, seconds: float) -> None:
    """Keeps `workers` processes running until all jobs are done; kills `kills` of them, each at the start of a step."""
    steps = STEPS * library.jobs.counts()["queued"]
    fatal, step = set(random.Random(0).sample(range(steps // 2), kills)), 0
    running: list[Started] = []
    while True:
        running += [started(library, seconds) for _ in range(workers - len(running))]
        worker = next_to_tell(running)
        if not has_begun_step(worker):
            worker.process.join(timeout=60)
            running.remove(worker)
            if not library.jobs.unfinished():
                break
            continue
        if step in fatal:
            fatal.remove(step)
            worker.process.kill()
        step += 1
    for worker in running:
        worker.process.join(timeout=60)
    assert not fatal, "too few steps to be killed at"


def next_to_tell(running: list[Started]) -> Started:
    """The worker that begins a step, or has ended."""
    ready = wait([worker.steps for worker in running], timeout=120)
    assert ready, "no worker does anything"
    return next(worker for worker in running if worker.steps is ready[0])


def has_begun_step(worker: Started) -> bool:
    """Whether the worker begins a step; if not, it has ended."""
    try:
        return worker.steps.recv_bytes() == b"."
    except EOFError:
        return False


@pytest.mark.parametrize(
    ("concepts", "workers", "kills"),
    [(8, 2, 2), pytest.param(200, 4, 20, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
def test_every_concept_is_trained_exactly_once_although_workers_are_killed(
    concepts, workers, kills, tmp_path, database
):
    library = Library(tmp_path / "library", database)
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    names = [f"c{index}" for index in range(concepts)]
    for name in names:
        library.add_concept(name, "dog", [tmp_path / "one.png"])
    capacity = 2 * concepts
    options = {"base": "none", "fingerprint": "abc", "recipe": {}, "max_attempts": 25}
    library.jobs.queue([Order(name, columns=Columns(2, capacity), **options) for name in names])
    kill_while_they_work(library, workers, kills, seconds=2)
    assert library.jobs.counts() == {"queued": 0, "running": 0, "done": concepts, "failed": 0, "cancelled": 0}
    found = library.concepts()
    assert [concept.result and concept.result.path.read_bytes() for concept in found] == [n.encode() for n in names]
    assert [concept.columns[0].start for concept in found] == list(range(0, capacity, 2))
    done = {job.result_id for job in library.jobs.page(concepts)}
    assert len(done) == concepts
    # A worker that was killed between writing its files and its row may have left a folder, which no row names
    assert done <= {path.name for path in (library.root / "results").iterdir()}
    # More than the kills may have been begun again: a worker that gets no processor for long loses its lease as well
    assert len((library.root / "log.txt").read_text().splitlines()) >= concepts
