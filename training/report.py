"""HTML reports in one file: sections of text, pictures and tables."""

import base64
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
    environment = Environment(loader=PackageLoader("training", "templates"), autoescape=select_autoescape(default=True))
    environment.filters["data_uri"] = _data_uri
    environment.filters["shown"] = _shown
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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return Image.open(buffer).convert("RGB")


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
