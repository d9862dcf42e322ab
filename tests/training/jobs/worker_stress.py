"""Worker processes with a training that takes no time, which report each step. Every attempt leaves a line
in log.txt.
"""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from concepts import Lease, Library
from training.engine.trainer import Progress
from training.jobs.worker import Worker

STEPS = 4

# One server imports what is slow to import, once, and forks the workers from there
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["training.jobs.worker"])


class QuickTrain:
    """Steps that do nothing, and a result that names the concept."""

    def __init__(self, library: Library, on_step: Callable[[], object]):
        self.library, self.on_step = library, on_step

    def __call__(self, lease: Lease, on_progress: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
        with (self.library.root / "log.txt").open("a") as log:
            log.write(f"{lease.job.concept} {os.getpid()}\n")
        for step in range(1, STEPS + 1):
            self.on_step()
            assert not stop()
            on_progress(Progress(step, STEPS, 1 / step))
        details = {"base": "abc", "adapter": "lora", "rank": 8, "parameters": 1}
        self.library.store_result(lease.job.concept, lease.job.concept.encode(), details, None, lease)


@dataclass(frozen=True)
class Started:
    """A running worker: its process, and a pipe with one byte for each step that it begins."""

    process: BaseProcess
    steps: Connection


def work(root: Path, database: str | None, seconds: float, steps: Connection) -> None:
    library = Library(root, database)
    train = QuickTrain(library, lambda: steps.send_bytes(b"."))
    Worker(library, train, seconds=seconds).run(until_empty=True)


def started(library: Library, seconds: float) -> Started:
    """A new worker."""
    reading, writing = processes.Pipe(duplex=False)
    worker = processes.Process(target=work, args=(library.root, library.database, seconds, writing))
    worker.start()
    writing.close()
    return Started(worker, reading)
