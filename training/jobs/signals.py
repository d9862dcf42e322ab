"""Handles Ctrl-C and SIGTERM as a request to stop, so that the state can be saved first."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_requested(on_request: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether Ctrl-C or SIGTERM was received; a second signal interrupts at once.

    `on_request` is called at the first. It must be used in the process's main thread.
    """
    requested = False

    def handle(*_: Any) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True
        on_request()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
