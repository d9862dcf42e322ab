"""What the benchmarks share: a table with a plot as the result, and results that a later run goes on from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from concepts.errors import StudioError
from concepts.storage import atomic_write
from training.reporting.timing import Timing

RESULTS = Path(__file__).parent / "results"
TIMING_COLUMNS = ("median seconds", "median ratio", "interquartile range of the ratios")


def started(file: Path, settings: Mapping[str, Any], rows: str) -> dict[str, Any]:
    """The results so far: the settings, and the measured ones under the key `rows`. StudioError where they are of other
    settings.
    """
    document = json.loads(file.read_text()) if file.exists() else {"settings": settings, rows: {}}
    if document["settings"] != settings:
        raise StudioError(f"Remove {file} or give its settings again: it holds {document['settings']}.")
    return document


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
