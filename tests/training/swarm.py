"""Processes that work on a queue with a training that takes no time. Every attempt leaves a line in log.txt."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

from concepts import Lease, Library
from training.loop import Progress
from training.worker import Worker

STEPS = 4

# One server imports what is slow to import, once, and forks the workers from there
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["training.worker"])


class QuickTrain:
    """Steps of a few milliseconds, and a result that tells the concept."""

    def __init__(self, library: Library):
        self.library = library

    def __call__(self, lease: Lease, on_progress: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
        with (self.library.root / "log.txt").open("a") as log:
            log.write(f"{lease.job.concept} {os.getpid()}\n")
        for step in range(1, STEPS + 1):
            time.sleep(0.01)
            assert not stop()
            on_progress(Progress(step, STEPS, 1 / step))
        details = {"base": "abc", "adapter": "lora", "rank": 8, "parameters": 1}
        self.library.store_result(lease.job.concept, lease.job.concept.encode(), details, None, lease)


def work(root: Path, database: str | None, seconds: float) -> None:
    library = Library(root, database)
    Worker(library, QuickTrain(library), seconds=seconds).run(until_empty=True)


def started(library: Library, seconds: float):
    """A new worker, at work."""
    worker = processes.Process(target=work, args=(library.root, library.database, seconds))
    worker.start()
    return worker
