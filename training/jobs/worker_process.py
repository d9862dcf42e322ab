"""Starts workers as processes on this machine."""

import json
import os
import subprocess
import sys
from typing import Any

from concepts import Library
from concepts.environment import DATABASE_VARIABLE
from concepts.job_leases import LEASE_SECONDS
from training.jobs.signals import stop_requested
from training.jobs.worker import Worker


def start_worker(library: Library, **options: Any) -> subprocess.Popen[bytes]:
    """Starts a process that trains the library's queue until SIGTERM; `options` are those of Worker.run, plus
    `seconds`, the length of a lease, and `niceness`, 0 to 19, of its scheduling priority.

    It keeps running when this process ends, and logs to stderr.
    """
    environment = {**os.environ, **({DATABASE_VARIABLE: library.database} if library.database else {})}
    arguments = json.dumps({"library": str(library.root), **options})
    command = [sys.executable, "-m", "training.jobs.worker_process", arguments]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


def work(library: Library, seconds: float = LEASE_SECONDS, **options: Any) -> int:
    """Runs `Worker.run` until Ctrl-C or SIGTERM; logs to stderr."""

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with stop_requested(lambda: log("stopping after this step")) as stop:
        return Worker(library, None, stop, log, seconds).run(**options)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    if (niceness := given.pop("niceness", 0)) and hasattr(os, "nice"):
        os.nice(niceness)
    work(Library(given.pop("library"), os.environ.get(DATABASE_VARIABLE) or None), **given)
