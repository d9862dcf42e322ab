"""A worker: leases the library's jobs one after another, trains them, and stores the results."""

import os
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from threading import Event, Thread
from typing import Protocol, Self, TypeVar

from concepts import Lease, LeaseLostError, Library, UnavailableError
from concepts.errors import StudioError
from concepts.job_leases import LEASE_SECONDS
from studio.metrics.clip import Scorer, load_scorer, scorer_of
from studio.models.base_model import Base, load_base
from training.config.stored_recipe import stored_recipe
from training.engine.trainer import Progress, TrainingStopped, never_stop
from training.jobs.library_training import train_in_library

Answer = TypeVar("Answer")
IDLE_SECONDS = 1.0
REPORT_SECONDS = 1.0
REPORT_STEPS = 50
"""Maximum steps between reports: the reported losses must cover the checkpoints from which a training resumes."""


class Train(Protocol):
    """Trains one job and stores its result with the lease; raises TrainingStopped as `train_concept` does."""

    def __call__(self, lease: Lease, on_progress: Callable[[Progress], None], stop: Callable[[], bool]) -> object:
        """Trains the lease's job."""
        ...


class Trainer:
    """Trains jobs of one library; keeps the base of the last job, and its scorer, loaded.

    `backbone` is the scorer, as `load_scorer` takes it; that of the base's family if it is None.
    """

    def __init__(self, library: Library, backbone: str | None = None):
        self._library, self._backbone = library, backbone
        self._base: Base | None = None
        self._scorers = lru_cache(1)(load_scorer)

    def __call__(self, lease: Lease, on_progress: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
        """Trains the lease's job and stores the result."""
        job = lease.job
        base = self._loaded(job.base)
        if base.decomposition.fingerprint != job.fingerprint:
            raise StudioError(f"{job.base} has other weights than when this training was queued. Queue it again.")
        concept = self._library.concept_of_job(job)
        train_in_library(
            self._library, base, lambda: self._scorer_of(base), concept, stored_recipe(job.recipe), job.first_column,
            on_progress, None, stop, lease,
        )  # fmt: skip

    def _loaded(self, name: str) -> Base:
        if self._base is None or self._base.name != name:
            self._base = None  # before the next one is loaded: two may not fit in memory
            self._base = load_base(name, self._library.local / "columns")
        return self._base

    def _scorer_of(self, base: Base) -> Scorer:
        return self._scorers(self._backbone or scorer_of(base.family))


class Worker:
    """Trains the jobs of a library's queue until `stop` returns true; then the current job returns to the queue.

    `on_event` is called with a message for every event. A worker that dies loses its job after `seconds`, and another
    resumes it.
    """

    def __init__(
        self,
        library: Library,
        train: Train | None = None,
        stop: Callable[[], bool] = never_stop,
        on_event: Callable[[str], None] = lambda _: None,
        seconds: float = LEASE_SECONDS,
    ):
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._library, self._train = library, train or Trainer(library)
        self._stop, self._on_event, self._seconds = stop, on_event, seconds

    def run(self, once: bool = False, until_empty: bool = False) -> int:
        """Trains jobs, and returns their number: at most one with `once`; with `until_empty`, until none is queued or
        running at another worker, which may lose it. It waits for a database that is unavailable.
        """
        taken = 0
        while not self._stop():
            lease = self._when_available(lambda: self._library.jobs.lease(self.name, self._seconds))
            if lease is not None:
                taken += 1
                self._work(lease)
            if once or (until_empty and lease is None and not self._when_available(self._library.jobs.unfinished)):
                break
            if lease is None:
                self._idle()
        return taken

    def _when_available(self, query: Callable[[], Answer | None]) -> Answer | None:
        """The result of `query` once the database is available; None if this worker is stopped before."""
        reported = False
        while not self._stop():
            try:
                return query()
            except UnavailableError as error:
                if not reported:
                    self._on_event(f"waiting. {error}")
                reported = True
                self._idle()
        return None

    def _idle(self) -> None:
        until = time.monotonic() + IDLE_SECONDS
        while time.monotonic() < until and not self._stop():
            time.sleep(IDLE_SECONDS / 10)

    def _work(self, lease: Lease) -> None:
        job, again = lease.job, "" if lease.job.attempts == 1 else f" (attempt {lease.job.attempts})"
        self._on_event(f"{job.concept}: training{again}")
        try:
            with LeaseHeartbeat(lease, self._library.jobs.losses(job.id)) as heartbeat:
                outcome = self._outcome(lease, heartbeat)
        except LeaseLostError:
            outcome = "abandoned: it was cancelled, or another worker has it"
        except UnavailableError as error:
            outcome = f"left for another attempt. {error}"
        self._on_event(f"{job.concept}: {outcome}")

    def _outcome(self, lease: Lease, heartbeat: "LeaseHeartbeat") -> str:
        """Trains, and stores the job's outcome; LeaseLostError where the lease is lost."""
        try:
            self._train(lease, heartbeat.on_progress, lambda: self._stop() or heartbeat.lost())
        except TrainingStopped:
            heartbeat.report()
            lease.return_to_queue()
            return "returned to the queue"
        except LeaseLostError:
            raise
        except UnavailableError as error:
            lease.fail(str(error))
            return f"interrupted. {error}"
        except StudioError as error:  # a retry would fail again
            lease.fail(str(error), again=False)
            return f"failed. {error}"
        except Exception as error:
            traceback.print_exc()
            lease.fail(f"{type(error).__name__}: {error}")
            return f"failed, unexpectedly. {type(error).__name__}: {error}"
        return "done"


class LeaseHeartbeat:
    """Renews a lease in its own thread, and reports the training's progress to the database.

    `losses` are those of an earlier attempt, which this one may resume.
    """

    def __init__(self, lease: Lease, losses: list[float]):
        self._lease, self._losses = lease, losses
        self._over, self._lost = Event(), False
        self._step, self._steps, self._reported = 0, lease.job.steps, 0.0
        self._thread = Thread(target=self._renew_until_over, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def on_progress(self, progress: Progress) -> None:
        """Records the training's progress, and reports it every REPORT_SECONDS or REPORT_STEPS."""
        if progress.loss is None:
            return
        self._step, self._steps = progress.step, progress.steps
        self._losses = [*self._losses[: progress.step - 1], progress.loss]
        last = progress.step == progress.steps
        due = time.monotonic() - self._reported >= REPORT_SECONDS
        if due or last or progress.step % REPORT_STEPS == 0:
            self.report()

    def report(self) -> None:
        """Reports to the database; if it is unavailable, the next report has everything."""
        with suppress(UnavailableError):
            self._lease.report(self._step, self._steps, self._losses)
        self._reported = time.monotonic()

    def lost(self) -> bool:
        """Whether the lease is lost; checked before every step, so that cancelling stops within one."""
        with suppress(UnavailableError):
            self._lost = self._lost or not self._lease.alive()
        return self._lost

    def _renew_until_over(self) -> None:
        while not self._over.wait(self._lease.seconds / 4):
            try:
                self._lease.renew()
            except LeaseLostError:
                self._lost = True
                return
            except UnavailableError:  # temporarily unavailable; the next heartbeat may succeed
                continue
