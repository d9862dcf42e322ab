"""A worker: leases the library's jobs one after another, trains them, and stores what came of them."""

import os
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Protocol, Self, TypeVar

from concepts import Lease, LeaseLostError, Library, UnavailableError
from concepts.errors import StudioError
from concepts.leases import LEASE_SECONDS
from studio.metrics.clip import Scorer, load_scorer
from studio.models.base_model import Base, load_base
from training.config.stored_recipe import stored_recipe
from training.engine.trainer import Progress, TrainingStopped, never_stop
from training.jobs.run import train_in_library

Answer = TypeVar("Answer")
IDLE_SECONDS = 1.0
REPORT_SECONDS = 1.0
REPORT_STEPS = 50
"""A report at least so often: the losses must reach as far as the checkpoints that a resumed training goes on from."""


class Train(Protocol):
    """What trains one job and stores its result with the lease; raises TrainingStopped as `train_concept` does."""

    def __call__(self, lease: Lease, on_progress: Callable[[Progress], None], stop: Callable[[], bool]) -> object:
        """Trains the lease's job."""
        ...


class Trainer:
    """Trains jobs of one library; the base of the last job, and the scorer, stay loaded."""

    def __init__(self, library: Library, backbone: str = "toybox-clip"):
        self._library, self._backbone = library, backbone
        self._base: Base | None = None
        self._scorer: Scorer | None = None

    def __call__(self, lease: Lease, on_progress: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
        """Trains the lease's job and stores the result."""
        job = lease.job
        base = self._loaded(job.base)
        if base.decomposition.fingerprint != job.fingerprint:
            raise StudioError(f"Queue this training again: {job.base} holds other weights than when it was queued.")
        concept = self._library.concept_of_job(job)
        train_in_library(
            self._library, base, self._scoring, concept, stored_recipe(job.recipe), job.first_column, on_progress, None,
            stop, lease,
        )  # fmt: skip

    def _loaded(self, name: str) -> Base:
        if self._base is None or self._base.name != name:
            self._base = None  # before the next one is loaded: two may not fit in memory
            self._base = load_base(name, self._library.local / "columns")
        return self._base

    def _scoring(self) -> Scorer:
        if self._scorer is None:
            self._scorer = load_scorer(self._backbone)
        return self._scorer


class Worker:
    """Works on a library's queue until `stop` says so; then the job at hand goes back with its checkpoint.

    `on_event` is told what happens in sentences. A worker that dies loses its job after `seconds`, and another goes on
    with it.
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
        """Takes jobs as they come, and returns how many were taken: one at most with `once`, and with `until_empty` for
        as long as any is queued or, maybe to be lost, at another worker. A database that is away is waited for.
        """
        taken = 0
        while not self._stop():
            lease = self._answer(lambda: self._library.jobs.lease(self.name, self._seconds))
            if lease is not None:
                taken += 1
                self._work(lease)
            if once or (until_empty and lease is None and not self._answer(self._library.jobs.unfinished)):
                break
            if lease is None:
                self._idle()
        return taken

    def _answer(self, ask: Callable[[], Answer | None]) -> Answer | None:
        """What the database answers, as soon as it can be reached; None if this worker is to stop before."""
        told = False
        while not self._stop():
            try:
                return ask()
            except UnavailableError as error:
                if not told:
                    self._on_event(f"waiting. {error}")
                told = True
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
            with LeaseHeartbeat(lease, self._library.jobs.losses(job.id)) as pulse:
                outcome = self._outcome(lease, pulse)
        except LeaseLostError:
            outcome = "given up: it was cancelled, or another worker has it"
        except UnavailableError as error:
            outcome = f"left to another attempt. {error}"
        self._on_event(f"{job.concept}: {outcome}")

    def _outcome(self, lease: Lease, pulse: "LeaseHeartbeat") -> str:
        """Trains, and tells the database how it went; LeaseLostError where that is no longer this worker's."""
        try:
            self._train(lease, pulse.told, lambda: self._stop() or pulse.lost())
        except TrainingStopped:
            pulse.report()
            lease.hand_back()
            return "handed back"
        except LeaseLostError:
            raise
        except UnavailableError as error:
            lease.fail(str(error))
            return f"interrupted. {error}"
        except StudioError as error:  # it would be no better another time
            lease.fail(str(error), again=False)
            return f"failed. {error}"
        except Exception as error:
            traceback.print_exc()
            lease.fail(f"{type(error).__name__}: {error}")
            return f"failed, unexpectedly. {type(error).__name__}: {error}"
        return "done"


class LeaseHeartbeat:
    """Keeps a lease alive from a thread of its own, and tells the database how far the training is.

    `losses` are those of an earlier attempt, which this one may go on from.
    """

    def __init__(self, lease: Lease, losses: list[float]):
        self._lease, self._losses = lease, losses
        self._over, self._lost = Event(), False
        self._step, self._steps, self._reported = 0, lease.job.steps, 0.0
        self._thread = Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def told(self, progress: Progress) -> None:
        """Notes the training's progress, and reports it now and then."""
        if progress.loss is None:
            return
        self._step, self._steps = progress.step, progress.steps
        self._losses = [*self._losses[: progress.step - 1], progress.loss]
        last = progress.step == progress.steps
        due = time.monotonic() - self._reported >= REPORT_SECONDS
        if due or last or progress.step % REPORT_STEPS == 0:
            self.report()

    def report(self) -> None:
        """Tells the database; one that is away for a moment is told all of it another time."""
        with suppress(UnavailableError):
            self._lease.report(self._step, self._steps, self._losses)
        self._reported = time.monotonic()

    def lost(self) -> bool:
        """Whether the job is no longer this worker's; asked before every step, so that cancelling stops within one."""
        with suppress(UnavailableError):
            self._lost = self._lost or not self._lease.alive()
        return self._lost

    def _beat(self) -> None:
        while not self._over.wait(self._lease.seconds / 4):
            try:
                self._lease.renew()
            except LeaseLostError:
                self._lost = True
                return
            except UnavailableError:  # a database that is away for a moment; the next beat may reach it
                continue
