"""What the benchmarks share: interleaved timing, ratios, and a table with a plot as the result."""

import multiprocessing
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from concepts.storage import atomic_write

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timing:
    """One contender: the seconds of each round, and each round's ratio to the reference in the same round."""

    name: str
    seconds: np.ndarray
    ratios: np.ndarray

    def cells(self) -> list[str]:
        """Median seconds, median ratio, and the ratio's middle half."""
        low, middle, high = np.quantile(self.ratios, (0.25, 0.5, 0.75))
        return [f"{np.median(self.seconds):.4f}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}"]


TIMING_COLUMNS = ("median seconds", "median ratio", "middle half of the ratios")


def interleaved(contenders: Mapping[str, Callable[[], object]], reference: str, rounds: int) -> list[Timing]:
    """Times every contender once a round, in turns that rotate, after one round that warms up.

    A machine that is slow for a while is so for all of them; ratios to `reference` are taken within each round.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in [*names[turn:], *names[:turn]]:
            began = perf_counter()
            contenders[name]()
            if number:
                seconds[name].append(perf_counter() - began)
    base = np.array(seconds[reference])
    return [Timing(name, np.array(taken), np.array(taken) / base) for name, taken in seconds.items()]


def added_at_peak(action: Callable[[], object]) -> float:
    """Megabytes that the action adds at its peak to what this process holds; Linux alone tells."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _resident("VmRSS")
    action()
    return (_resident("VmHWM") - before) / 1024


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def own_process() -> Any:
    """A pool of one process for measuring memory: it has the libraries, and gives back what it frees."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "peft", "diffusers"])
    return context.Pool(1)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """The machine and the versions that a result depends on, in a sentence."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "peft"))
    model = next((line for line in _cpu_lines() if line), platform.processor() or platform.machine())
    return f"Measured on {model}, {torch.get_num_threads()} threads, {packages}."


def _cpu_lines() -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]


def plot_ratios(path: Path, groups: Mapping[str, Sequence[Timing]], reference: str) -> None:
    """Every ratio of every round as a box plot, a panel a group, to a PNG file."""
    tallest = max(len(timings) for timings in groups.values())
    figure = Figure(figsize=(5 * len(groups), 1.2 + 0.28 * tallest), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, (title, timings) in zip(panels, groups.items(), strict=True):
        names = [timing.name for timing in timings]
        axes.boxplot([timing.ratios for timing in timings], tick_labels=names, orientation="horizontal")
        axes.invert_yaxis()
        axes.axvline(1, color="#888888", linewidth=0.8)
        axes.set(title=title, xlabel=f"time, {reference} = 1")
    figure.savefig(path, dpi=120)


def write_results(folder: Path, name: str, text: str, reference: str, groups: Mapping[str, Sequence[Timing]]) -> None:
    """Writes `name.md`, the text with the plot below it, and `name.png`; prints the text."""
    folder.mkdir(parents=True, exist_ok=True)
    plot_ratios(folder / f"{name}.png", groups, reference)
    document = f"{text}\n\n![Ratios of every round]({name}.png)\n"
    atomic_write(folder / f"{name}.md", document.encode())
    print(document)
