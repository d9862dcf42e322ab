"""HTML reports in one file: sections of text, pictures and tables."""

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib.figure import Figure
from PIL import Image

from concepts.storage import atomic_write


@dataclass(frozen=True)
class Section:
    """A part of a report: its heading, a paragraph, pictures below one another, and rows of a table."""

    heading: str
    text: str
    pictures: Sequence[Image.Image] = ()
    rows: Sequence[Mapping[str, Any]] = field(default_factory=list)


def write_report(path: Path, title: str, sections: Sequence[Section]) -> Path:
    """Writes the report, its pictures inside it, and returns its absolute path."""
    atomic_write(path, report_html(title, sections).encode())
    return path.resolve()


def report_html(title: str, sections: Sequence[Section]) -> str:
    """The report as one HTML document, its pictures inside it."""
    environment = Environment(
        loader=PackageLoader("training.reporting", "templates"), autoescape=select_autoescape(default=True)
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["shown"] = shown
    return environment.get_template("report.html").render(title=title, sections=sections)


def loss_curves(losses: Mapping[str, Sequence[float]], window: int = 20) -> Image.Image:
    """Each training's loss by step, as a running mean over `window` steps."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    for name, values in losses.items():
        width = min(window, len(values))
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(np.arange(width, len(values) + 1), mean, label=name)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    return picture_of(figure)


def training_curves(details: Mapping[str, Any], name: str) -> Image.Image:
    """Plots of a result's training: loss, with that on validation pictures, learning rates, and image alignment if it
    was measured.
    """
    panels = 3 if details["alignments"] else 2
    figure = Figure(figsize=(4.5 * panels, 3.2), layout="constrained")
    axes = figure.subplots(1, panels)
    losses = details["losses"]
    width = min(20, len(losses))
    axes[0].plot(range(1, len(losses) + 1), losses, color="#cccccc", linewidth=0.8)
    axes[0].plot(range(width, len(losses) + 1), np.convolve(losses, np.ones(width) / width, mode="valid"))
    if held_out := details.get("validation_losses"):
        axes[0].plot(*zip(*held_out, strict=True), marker="o", label="on validation pictures")
        axes[0].legend()
    axes[0].set(title=name, xlabel="step", ylabel=f"loss, and its mean over {width} steps")
    for part, rates in details["rates"].items():
        axes[1].plot(range(1, len(rates) + 1), rates, label=part)
    axes[1].set(xlabel="step", ylabel="learning rate")
    axes[1].set_yscale("symlog", linthresh=1e-6)
    axes[1].legend()
    if details["alignments"]:
        axes[2].plot(*zip(*details["alignments"], strict=True), marker="o")
        axes[2].set(xlabel="step", ylabel="image alignment of previews")
    return picture_of(figure)


def picture_of(figure: Figure) -> Image.Image:
    """A plot as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return Image.open(buffer).convert("RGB")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as CSV, with the first one's keys as its heading."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def shown(value: Any) -> str:
    """A value formatted for a table."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
