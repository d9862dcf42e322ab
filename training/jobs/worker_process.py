"""Workers as processes of this machine."""

import json
import os
import subprocess
import sys
from typing import Any

from concepts import Library
from concepts.database import DATABASE_VARIABLE
from concepts.leases import LEASE_SECONDS
from training.jobs.signals import asked_to_stop
from training.jobs.worker import Worker


def start_worker(library: Library, **options: Any) -> subprocess.Popen[bytes]:
    """Starts a process that works on the library's queue until it gets SIGTERM; `options` are those of Worker.run, and
    `seconds`, the length of a lease, and `niceness`, how far it gives way to other processes, 0 to 19.

    It outlives this process, and says what happens on stderr.
    """
    environment = {**os.environ, **({DATABASE_VARIABLE: library.database} if library.database else {})}
    arguments = json.dumps({"library": str(library.root), **options})
    command = [sys.executable, "-m", "training.jobs.worker_process", arguments]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


def work(library: Library, seconds: float = LEASE_SECONDS, **options: Any) -> int:
    """Works on the queue as `Worker.run` does, until Ctrl-C or SIGTERM; says what happens on stderr."""

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with asked_to_stop(lambda: say("stopping after this step")) as stop:
        return Worker(library, None, stop, say, seconds).run(**options)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    if (niceness := given.pop("niceness", 0)) and hasattr(os, "nice"):
        os.nice(niceness)
    work(Library(given.pop("library"), os.environ.get(DATABASE_VARIABLE) or None), **given)
