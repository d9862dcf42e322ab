"""`studio ui` in a process of its own, and a browser in front of it; whatever the browser's console reports fails."""

import os
import re
import selectors
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from concepts import Library
from concepts.samples import SAMPLES
from studio.adapters.concept_file import to_bytes
from studio.models.base_model import load_base

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = Path(__file__).parent / "screenshots"
PATIENCE = 60_000
"""Milliseconds to wait for what a loaded machine takes long for."""
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_missing: list[str] = []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says it where nobody can overlook it."""
    if _missing:
        terminalreporter.section("BROWSER TESTS DID NOT RUN", sep="!", red=True)
        terminalreporter.line(
            "No Chromium was found, and none could be installed: install chromium and run them again."
        )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium; without one the test is skipped, loudly."""
    path = _installed() or _from_playwright() or _from_debian()
    if path is None:
        _missing.append("chromium")
        pytest.skip("There is no Chromium on this machine, and none could be installed.")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What the pages' consoles report as errors; any of it fails the test when it ends."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def reload(errors: list[str]) -> Callable[[Page], None]:
    """A function that loads a page anew. Answers on their way to the old document end in errors there, which are none
    of the page's.
    """

    def load_anew(page: Page) -> None:
        before = len(errors)
        page.reload()
        del errors[before:]

    return load_anew


@pytest.fixture
def open_page(browser: Browser, errors: list[str]) -> Iterator[Callable[..., Page]]:
    """A function that opens an address."""
    contexts = []

    def open_one(address: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.get_by_role("tab", name="Concepts").wait_for()
        return page

    expect.set_options(timeout=PATIENCE)
    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Library:
    """The library that the page shows; empty at first."""
    return Library(tmp_path_factory.mktemp("browser") / "library")


@pytest.fixture(scope="session")
def address(library: Library, tiny_folder: Path) -> Iterator[str]:
    """The address of a `studio ui` on that library and the tiny base, open to other programs."""
    with served(library.local, "--api", "--base", str(tiny_folder)) as (_, found):
        yield found


@pytest.fixture(scope="session")
def empty(tmp_path_factory, tiny_folder: Path) -> Iterator[str]:
    """The address of a `studio ui` on an empty library, which is closed to other programs."""
    with served(tmp_path_factory.mktemp("empty") / "library", "--base", str(tiny_folder)) as (_, found):
        yield found


@contextmanager
def served(library: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process of a `studio ui` on this library, and its address."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}  # for its worker's sake, too
    process = subprocess.Popen(
        [sys.executable, "-c", "from ui.cli.main import main; main()", "ui", "--library", str(library), *options],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        yield process, _address(process)
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout
        process.stdout.close()


def _address(process: subprocess.Popen[str]) -> str:
    """What the command prints when the page is there."""
    assert process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(240), "studio ui printed no address"
    match = re.search(r"http://\S+", process.stdout.readline())
    assert match, "studio ui ended before it printed an address"
    return match[0]


@pytest.fixture(scope="session")
def serve_page() -> Callable[..., AbstractContextManager[tuple[subprocess.Popen[str], str]]]:
    """`served`, for a test that wants a page of its own."""
    return served


@pytest.fixture(scope="session")
def trained(library: Library, tiny_folder: Path, make_concept) -> Library:
    """The same library with rex and azura of the samples as if the base had been trained on them, and milo and onyx."""
    base = load_base(str(tiny_folder), device="cpu")
    for seed, name in enumerate(("rex", "azura", "milo", "onyx")):
        library.add_concept(name, SAMPLES[name].class_word, SAMPLES[name].pictures)
        if name in ("milo", "onyx"):
            continue
        concept = make_concept(base, name, "lora", seed)
        scores = {"backbone": "toybox-clip", "image_alignment": 0.8, "text_alignment": 0.3}
        details = {"base": concept.base, "adapter": "lora", "rank": 4, "parameters": 1000, "scores": scores}
        library.store_result(name, to_bytes(concept), details)
    return library


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """The folder of screenshots, which are kept."""
    SCREENSHOTS.mkdir(exist_ok=True)
    return SCREENSHOTS


def _installed() -> str | None:
    return next((path for name in CHROMIUMS if (path := shutil.which(name))), None)


def _from_playwright() -> str | None:
    if not _ran([sys.executable, "-m", "playwright", "install", "chromium"], 120):
        return None
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def _from_debian() -> str | None:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return None
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        if not _ran(["apt-get", "-qq", *command], 300, environment):
            return None
    return _installed()


def _ran(command: list[str], seconds: int, environment: dict[str, str] | None = None) -> bool:
    """Whether the command ended well within the time."""
    try:
        subprocess.run(command, check=True, timeout=seconds, env=environment, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return True
