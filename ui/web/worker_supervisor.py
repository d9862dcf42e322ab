"""The worker process of the page: started when there is something to train, and not tied to the page's life."""

import subprocess
from threading import Lock

from concepts import Library
from training.jobs.worker_process import start_worker


class WorkerSupervisor:
    """One worker process of this page's library. It ends by itself when the queue is empty, also without the page."""

    def __init__(self, library: Library):
        self._library, self._turn = library, Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ensure_running(self) -> None:
        """Sees to it that a worker is at hand while trainings wait, also after one has died."""
        with self._turn:
            at_work = self._process is not None and self._process.poll() is None
            if not at_work and self._library.jobs.unfinished():
                self._process = start_worker(self._library, until_empty=True, niceness=10)
