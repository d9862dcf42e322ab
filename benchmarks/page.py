"""How quick the page is: from the printed address to cards that can be clicked, and a switch of tabs while it trains.

`uv run python -m benchmarks.page`; needs an installed Chromium. The library is empty at first, as a newcomer's is.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Annotated

import numpy as np
import typer
from playwright.sync_api import Page, sync_playwright

from benchmarks.common import RESULTS
from concepts import Library, atomic_write
from concepts.errors import StudioError
from concepts.samples import SAMPLES
from training.reporting.html_report import table
from training.reporting.timing import machine

TABS = ("Concepts", "Train", "Generate", "Compare", "Score")
USABLE, SWITCH = 3.0, 0.3
"""The limits, in seconds."""
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def served(library: Path) -> Iterator[str]:
    """The address of a `studio ui`, at the moment when it is printed."""
    command = [sys.executable, "-u", "-m", "ui.cli.main", "ui", "--library", str(library)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    try:
        assert process.stdout
        match = re.search(r"http://\S+", process.stdout.readline())
        if match is None:
            raise StudioError("Run studio ui by hand and see why it ends: it printed no address.")
        yield match[0]
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def browser() -> Iterator[Page]:
    """A page of headless Chromium that has loaded nothing yet."""
    path = next((path for name in CHROMIUMS if (path := shutil.which(name))), None)
    if path is None:
        raise StudioError(f"Install Chromium: none of {', '.join(CHROMIUMS)} is here.")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield running.new_page(viewport={"width": 1280, "height": 900})
        running.close()


def seconds_to_use(page: Page, address: str) -> float:
    """Seconds until the first sample's button can be clicked."""
    began = perf_counter()
    page.goto(address, wait_until="commit")
    page.get_by_role("button", name="Train this").first.click(trial=True)
    return perf_counter() - began


def seconds_to_switch(page: Page, rounds: int) -> list[float]:
    """Seconds of each switch to a tab, until its panel has been generated."""
    taken = []
    for number in range(rounds * len(TABS)):
        name = TABS[(number + 1) % len(TABS)]
        taken.append(page.evaluate(_SWITCH, name) / 1000)
        sleep(0.2)
    return taken


_SWITCH = """async (name) => {
  const tab = [...document.querySelectorAll('[role=tab]')].find((each) => each.textContent.trim() === name);
  const began = performance.now();
  tab.click();
  const shown = () => document.getElementById(tab.getAttribute('aria-controls'))?.checkVisibility();
  while (tab.getAttribute('aria-selected') !== 'true' || !shown()) await new Promise(requestAnimationFrame);
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - began;
}"""


def wait_for_training(library: Library) -> None:
    """Waits until a training takes its steps."""
    while not any(job.state == "running" and job.step for job in library.jobs.page()):
        sleep(0.5)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Switches to each tab.")] = 10,
    results: Annotated[Path, typer.Option(help="Where the table goes.")] = RESULTS,
) -> None:
    """Measure, and write page.md."""
    with tempfile.TemporaryDirectory() as folder, browser() as page:
        library = Library(Path(folder) / "library")
        with served(library.local) as address:
            usable = seconds_to_use(page, address)
            page.get_by_role("button", name=f"Train this: {next(iter(SAMPLES))}").click()
            wait_for_training(library)
            switches = seconds_to_switch(page, rounds)
            for job in library.jobs.page(states=("running", "queued")):
                library.jobs.cancel(job.id)
    rows = [
        ["from the address to a page that can be used", "1", f"{usable:.2f}", f"{usable:.2f}", f"{USABLE}"],
        ["switch of tabs while a training runs", str(len(switches)), f"{np.median(switches):.3f}",
         f"{max(switches):.3f}", f"{SWITCH}"],
    ]  # fmt: skip
    columns = ("what", "repeats", "median seconds", "longest", "limit")
    text = f"# The web UI\n\n{machine()} Headless Chromium on the same machine.\n\n{table(columns, rows)}"
    results.mkdir(parents=True, exist_ok=True)
    atomic_write(results / "page.md", text.encode())
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
