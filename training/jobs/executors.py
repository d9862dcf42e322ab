"""Executors of a batch: worker processes on this machine, or a Ray cluster, with the same queue and database."""

import os
import subprocess
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

from concepts import Library
from concepts.errors import StudioError
from concepts.job import UNFINISHED
from concepts.job_leases import LEASE_SECONDS
from training.jobs.worker import Trainer, Worker
from training.jobs.worker_process import start_worker

POLL_SECONDS = 0.5
MAX_FAILURES = 3
"""Maximum number of workers that fail in a row without any progress."""
MAX_PENDING_TASKS = 1000
"""Maximum number of pending tasks in Ray; the queue itself may be longer."""


class Executor(Protocol):
    """Trains the jobs of a library's queue until it is empty."""

    def __call__(self, library: Library, on_poll: Callable[[], None]) -> None:
        """Runs until no job is queued or running; `on_poll` is called after every poll."""
        ...


class LocalExecutor:
    """A number of worker processes; one that dies is replaced. It trains until `batch` is done, or the whole queue."""

    def __init__(self, workers: int = 1, seconds: float = LEASE_SECONDS, batch: str | None = None):
        self._count, self._seconds, self._batch = workers, seconds, batch
        self._workers: list[subprocess.Popen[bytes]] = []

    def __call__(self, library: Library, on_poll: Callable[[], None]) -> None:
        """Raises StudioError when MAX_FAILURES workers in a row fail without progress."""
        died, before = 0, library.jobs.last_heartbeat()
        try:
            while self._unfinished(library):
                ended = [worker for worker in self._workers if worker.poll() is not None]
                self._workers = [worker for worker in self._workers if worker not in ended]
                heartbeat = library.jobs.last_heartbeat()
                died = 0 if heartbeat != before else died + sum(worker.returncode != 0 for worker in ended)
                before = heartbeat
                if died >= MAX_FAILURES:
                    raise StudioError("The last worker processes failed without any progress. See their errors above.")
                while len(self._workers) < self._unfinished(library):
                    self._workers.append(start_worker(library, until_empty=True, seconds=self._seconds))
                on_poll()
                time.sleep(POLL_SECONDS)
        finally:
            self._stop()
        on_poll()

    def _unfinished(self, library: Library) -> int:
        """How many jobs are left, counted up to the number of workers."""
        if self._batch is None:
            return library.jobs.unfinished(self._count)
        counts = library.jobs.counts(batch=self._batch)
        return min(self._count, sum(counts[state] for state in UNFINISHED))

    def _stop(self) -> None:
        """Terminates running workers; their jobs return to the queue."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.wait()
        self._workers = []


class RayExecutor:
    """Tasks on a Ray cluster, at `address` or a local one, each of which trains one job of the queue.

    `gpus` and `cpus` are the resources of a task; `options` are those of ray.init. The library and its database must be
    reachable from all nodes.
    """

    def __init__(self, address: str | None = None, gpus: float = 0, cpus: float = 1, **options: Any):
        self._address, self._gpus, self._cpus, self._options = address, gpus, cpus, options

    def __call__(self, library: Library, on_poll: Callable[[], None]) -> None:
        """Raises StudioError where Ray is not installed."""
        ray = _ray()
        own = {} if self._address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        # Ray's workers have a niceness of 15 by default, and starve beside other processes
        os.environ.setdefault("RAY_worker_niceness", "0")
        ray.init(self._address, log_to_driver=False, **own, **self._options)
        try:
            task = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0)(_train_one)
            waiting: list[Any] = []
            while library.jobs.unfinished():
                wanted = library.jobs.unfinished(MAX_PENDING_TASKS, ["queued"])
                # at least one, which takes over a job whose task was lost
                for _ in range(max(wanted - len(waiting), 0 if waiting else 1)):
                    waiting.append(task.remote(str(library.root), library.database))
                _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=POLL_SECONDS)
                on_poll()
        finally:
            ray.shutdown()
        on_poll()


def _train_one(root: str, database: str | None) -> int:
    """A task: trains the next job, if there is one."""
    library, trainer = _opened(root, database)
    taken = Worker(library, trainer).run(once=True)
    if not taken:
        time.sleep(POLL_SECONDS)
    return taken


@cache
def _opened(root: str, database: str | None) -> tuple[Library, Trainer]:
    """Cached in the process, which Ray reuses for several tasks, so that the base stays loaded."""
    library = Library(root, database)
    return library, Trainer(library)


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise StudioError("Ray is not installed. Run uv sync --extra ray.") from error
    return ray
