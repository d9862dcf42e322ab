"""A PostgreSQL server for the tests, and empty databases on it: fixtures, loaded by tests/conftest.py."""

import os
import shutil
import signal
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

NO_POSTGRESQL = (
    "NOT RUN: no PostgreSQL. Install the pgserver wheel (Python 3.11 and 3.12), or put initdb and pg_ctl on the PATH "
    "and do not run as root, or set STUDIO_TEST_DATABASE to a URL."
)


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory) -> Iterator[str]:
    """The URL of a real PostgreSQL server."""
    with _postgresql_in(tmp_path_factory.mktemp("postgresql")) as url:
        with psycopg.connect(url, autocommit=True) as connection:  # nothing in it is kept after the tests
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield url


@pytest.fixture
def postgresql(postgresql_server: str) -> str:
    """The URL of an empty database on a real PostgreSQL server."""
    return _new_database(postgresql_server)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """What Library takes: None for SQLite, and the URL of an empty PostgreSQL database."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgresql")


@contextmanager
def _postgresql_in(folder: Path) -> Iterator[str]:
    """The URL of a server whose files lie in `folder`; skips the test where there is none."""
    if url := os.environ.get("STUDIO_TEST_DATABASE"):
        yield url
        return
    try:
        with warnings.catch_warnings(action="ignore"):  # where XDG_RUNTIME_DIR is not set
            import pgserver
    except ImportError:
        with _installed_server(folder) as url:
            yield url
        return
    running = pgserver.get_server(folder / "data")
    try:
        yield running.get_uri()
    finally:
        if process := running.get_pid():
            with suppress(ProcessLookupError):  # it may end by itself
                os.kill(process, signal.SIGQUIT)  # immediate shutdown: nothing has to be kept
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _installed_server(folder: Path) -> Iterator[str]:
    if not (shutil.which("initdb") and shutil.which("pg_ctl") and hasattr(os, "geteuid") and os.geteuid()):
        pytest.skip(NO_POSTGRESQL)
    data = str(folder / "data")
    subprocess.run(["initdb", "-D", data, "-U", "postgres", "-A", "trust"], check=True, capture_output=True)
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
    subprocess.run(["pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start"], check=True,
                   capture_output=True)  # fmt: skip
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        subprocess.run(["pg_ctl", "-D", data, "-m", "immediate", "stop"], check=False, capture_output=True)


def _new_database(url: str) -> str:
    """The URL of an empty database on this server."""
    name = f"studio_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    place, _, query = url.partition("?")
    return f"{place.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
