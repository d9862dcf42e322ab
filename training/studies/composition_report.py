"""The report of a composition study: a table, plots by number of concepts, and picture grids."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from training.report import Section, picture_of, write_report
from training.studies.summaries import summarised, with_spread

MEASURES = {
    "alone_identity": "identity accuracy, one at a time",
    "alone_identity_worst": "identity accuracy of the worst concept, one at a time",
    "region_identity": "identity accuracy by region",
    "region_identity_worst": "identity accuracy of the worst region",
    "alone_image_alignment": "image alignment, one at a time",
    "region_image_alignment": "image alignment by region",
    "alone_text_alignment": "text alignment, one at a time",
    "leak_class_word": "leak to the class word (cosine distance)",
    "leak_class_word_pixels": "leak to the class word (pixels)",
    "leak_unrelated": "leak to unrelated prompts (cosine distance)",
    "leak_unrelated_pixels": "leak to unrelated prompts (pixels)",
    "merge_seconds": "seconds to merge",
}
PLOTTED = ("alone_identity", "region_identity", "leak_class_word", "leak_unrelated")


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread (standard deviation over the seeds) of every measure, by number of concepts and pair."""
    return sorted(summarised(rows, ("count", "pair"), tuple(MEASURES)), key=lambda line: line["count"])


def _cells(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the summary as a table shows it: mean ± spread."""
    cells = {"concepts": line["count"], "pair": line["pair"], "seeds": line["n"]}
    return cells | {title: with_spread(line, measure) for measure, title in MEASURES.items()}


def plots(lines: Sequence[Mapping[str, Any]]) -> Image.Image:
    """The main measures by number of concepts, a line a pair, with the spread as bars."""
    figure = Figure(figsize=(13, 9), layout="constrained")
    for axes, measure in zip(figure.subplots(2, 2).flat, PLOTTED, strict=True):
        for pair in dict.fromkeys(line["pair"] for line in lines):
            own = [line for line in lines if line["pair"] == pair]
            spread = [line[f"{measure}_spread"] or 0.0 for line in own]
            axes.errorbar(
                [line["count"] for line in own], [line[measure] for line in own], spread, label=pair, marker="o",
                markersize=3, capsize=2, linewidth=1,
            )  # fmt: skip
        axes.set(title=MEASURES[measure], xlabel="concepts")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return picture_of(figure)


def write_composition_report(
    folder: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], backbone: str
) -> Path:
    """Writes report.html into the study's folder, and returns its path."""
    lines = summary(rows)
    text = (
        f"Sample concepts trained apart for {settings['steps']} steps at rank {settings['rank']}, then put together. "
        "Identity accuracy is the share of pictures whose nearest reference set, among all twelve sample concepts, is "
        f"the concept's own; alignment and leak are cosines in the embedding of {backbone}. Values are means over the "
        "seeds, of training and painting alike, ± their standard deviation. A pair reads ADAPTER+MERGE; average stands "
        "for strengths of 1/k, and unmerged for each concept's own products, acting inside its region alone."
    )
    sections = [
        Section("Measures by number of concepts", text, [plots(lines)]),
        Section("Table", "", rows=[_cells(line) for line in lines]),
    ]
    first = min(row["seed"] for row in rows)
    for count in dict.fromkeys(line["count"] for line in lines):
        pictures = {
            row["pair"]: Image.open(folder / "grids" / f"{row['pair']}-{count}-{first}.png").convert("RGB")
            for row in rows if row["count"] == count and row["seed"] == first
        }  # fmt: skip
        order = "; ".join(f"{place}. {pair}" for place, pair in enumerate(pictures, 1))
        sections.append(
            Section(f"{count} concepts in one picture", f"From top to bottom: {order}.", [*pictures.values()])
        )
    return write_report(folder / "report.html", "Composition: many concepts in one picture", sections)
