"""What must be settled before Gradio is imported: its temporary folder, proxies, and the port."""

import atexit
import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from concepts.errors import StudioError
from studio.hub_access import PROXY_VARIABLES
from ui.web.request_filter import LOOPBACK

FIRST_PORT, LAST_PORT = 7860, 7959
_ANY_ADDRESS = ("0.0.0.0", "::")
_REASONS = {
    errno.EADDRINUSE: "Port {port} is taken by another program. Choose another with --port, or any free one with 0.",
    errno.EACCES: "Port {port} may not be used by this user. Choose one above 1023 with --port.",
    errno.EADDRNOTAVAIL: "{host} is not an address of this machine. Give one of its addresses with --host.",
}
_OTHER = "{host} cannot be listened on ({error}). Give another --host."


@cache
def private_folder() -> Path:
    """This process's temporary folder, for Gradio too, which reads GRADIO_TEMP_DIR as it is imported.

    Gradio's own, /tmp/gradio, may belong to another user. What an event returns from the temporary folder is served, so
    nobody else's files may lie there. It is removed when the process ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="concept-studio-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "cache")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    tempfile.tempdir = str(folder)
    return folder


@contextmanager
def without_proxies() -> Iterator[None]:
    """While open, the environment names no proxies: importing and starting Gradio makes clients for all of them, also
    for those that cannot be used, and asks this machine alone.
    """
    kept = {name: value for name, value in os.environ.items() if name.lower() in PROXY_VARIABLES}
    for name in kept:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)


def bypass_proxies(host: str) -> None:
    """Keeps requests to this machine off the proxies of the environment: Gradio asks its own server as it starts."""
    here = [*LOOPBACK, *([] if host in _ANY_ADDRESS else [host])]
    for name in ("no_proxy", "NO_PROXY"):
        given = [part for part in os.environ.get(name, "").split(",") if part.strip()]
        os.environ[name] = ",".join([*given, *(part for part in here if part not in given)])


def free_port(host: str, port: int | None) -> int:
    """The port if it is free; the first free one from 7860 for None, any for 0.

    Raises StudioError, with what to do, for a port that is taken or not allowed, and for an address of another machine.
    """
    if port is not None:
        return _bound(host, port)
    for candidate in range(FIRST_PORT, LAST_PORT + 1):
        try:
            return _bound(host, candidate)
        except StudioError as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EADDRINUSE:
                raise
    raise StudioError(f"The ports {FIRST_PORT} to {LAST_PORT} are taken. Choose another with --port, or --port 0.")


def _bound(host: str, port: int) -> int:
    """The number of the port, once it was bound and let go."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
            return int(tried.getsockname()[1])
    except (OSError, UnicodeError) as error:
        reason = _REASONS.get(
            getattr(error, "errno", None) or 0, "{host} cannot be listened on ({error}). Give another --host."
        )
        raise StudioError(reason.format(host=host, port=port, error=error)) from error
