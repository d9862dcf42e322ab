"""The report of a composition study: a table, plots by number of concepts, and picture grids."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from training.reporting.html_report import Section, picture_of
from training.studies.composition_criteria import claims_summary, evaluate_claims
from training.studies.study_page import Page
from training.studies.summaries import summarised, with_spread

MEASURES = {
    "alone_identity": "identity accuracy, one at a time",
    "alone_identity_worst": "identity accuracy of the worst concept",
    "region_identity": "identity accuracy by region",
    "region_identity_worst": "identity accuracy of the worst region",
    "alone_image_alignment": "image alignment, one at a time",
    "region_image_alignment": "image alignment by region",
    "alone_text_alignment": "text alignment, one at a time",
    "leak_class_word": "leakage to the class word (cosine distance)",
    "leak_class_word_pixels": "leakage to the class word (pixels)",
    "leak_unrelated": "leakage to unrelated prompts (cosine distance)",
    "leak_unrelated_pixels": "leakage to unrelated prompts (pixels)",
    "merge_seconds": "seconds to merge",
}
MEASURES_KEPT = tuple(MEASURES)[:7]
"""The metrics of preservation; the others are of leakage and time."""
MIN_IDENTITY = 0.8
"""The identity accuracy from which concepts count as preserved."""
PLACED = ("bottom_columns", "random_columns", "random_basis", "sampled_columns")
PLACEMENT_MEASURES = ("alone_identity", "region_identity", "alone_image_alignment", "leak_class_word")
PLOTTED = ("alone_identity", "region_identity", "leak_class_word", "leak_unrelated")


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread (standard deviation over the seeds) of every measure, by number of concepts and pair."""
    return sorted(summarised(rows, ("count", "pair"), tuple(MEASURES)), key=lambda line: line["count"])


def _cells(line: Mapping[str, Any], measures: Sequence[str]) -> dict[str, Any]:
    """A line of the summary as a table shows it: mean ± spread."""
    cells = {"concepts": line["count"], "pair": line["pair"], "seeds": line["n"]}
    return cells | {MEASURES[measure]: with_spread(line, measure) for measure in measures}


def merge_capacity(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The number of concepts up to which each pair's identity accuracy is MIN_IDENTITY, one at a time and by region."""
    counts = sorted({line["count"] for line in lines})
    return [
        {"pair": pair}
        | {MEASURES[measure]: _most([line for line in lines if line["pair"] == pair], counts, measure) for measure in
           ("alone_identity", "region_identity")}
        for pair in dict.fromkeys(line["pair"] for line in lines)
    ]  # fmt: skip


def _most(lines: Sequence[Mapping[str, Any]], counts: Sequence[int], measure: str) -> str:
    """The largest number of concepts up to which every mean is at least MIN_IDENTITY, as text."""
    by_count = {line["count"]: line[measure] for line in lines}
    most = 0
    for count in counts:
        if by_count.get(count, 0.0) < MIN_IDENTITY:
            return f"{most}, not {count}" if most else f"fewer than {count}"
        most = count
    return f"{most} or more"


def placements(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Concepts in top columns minus the same ones in other columns: means of the differences, with their spread."""
    found = []
    for row in rows:
        if row["variant"] in PLACED:
            same = {**row, "variant": ""}
            key = ("adapter", "method", "averaged", "variant", "count", "seed")
            top = next((other for other in rows if all(other[k] == same[k] for k in key)), None)
            if top:
                compared = {"pair": f"{top['pair']} − {row['variant']}"}
                found.append(compared | {measure: top[measure] - row[measure] for measure in PLACEMENT_MEASURES})
    return [
        {"top columns minus others": line["pair"], "rows": line["n"]}
        | {MEASURES[measure]: with_spread(line, measure) for measure in PLACEMENT_MEASURES}
        for line in summarised(found, ("pair",), PLACEMENT_MEASURES)
    ]


def plots(lines: Sequence[Mapping[str, Any]]) -> Image.Image:
    """The main metrics by number of concepts, one line per pair, with the spread as error bars."""
    figure = Figure(figsize=(13, 9), layout="constrained")
    for axes, measure in zip(figure.subplots(2, 2).flat, PLOTTED, strict=True):
        for pair in dict.fromkeys(line["pair"] for line in lines):
            own = [line for line in lines if line["pair"] == pair]
            spread = [line[f"{measure}_spread"] or 0.0 for line in own]
            axes.errorbar(
                [line["count"] for line in own], [line[measure] for line in own], spread, label=pair, marker="o",
                markersize=3, capsize=2, linewidth=1,
            )  # fmt: skip
        axes.set(title=MEASURES[measure], xlabel="concepts", xticks=sorted({line["count"] for line in lines}))
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return picture_of(figure)


def composition_page(
    folder: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], backbone: str
) -> Page:
    """The study's page, from its rows and the picture grids in its folder."""
    lines, claims = summary(rows), evaluate_claims(rows)
    kept, leaked = MEASURES_KEPT, [measure for measure in MEASURES if measure not in MEASURES_KEPT]
    text = (
        f"Sample concepts trained separately for {settings['steps']} steps at rank {settings['rank']}, then merged. "
        "Identity accuracy is the share of pictures whose nearest reference set, among all twelve sample concepts, is "
        f"the concept's own; alignment is a cosine and leakage a cosine distance in the embedding of {backbone}. "
        "Values are means over the seeds, of training and generating alike, ± their standard deviation. A pair is "
        "written ADAPTER+MERGE; average is strengths of 1/k, and unmerged applies each concept's adapters separately, "
        "inside its region only."
    )
    sections = [
        Section("Claims", claims_summary(claims), rows=claims),
        Section("Metrics by number of concepts", text, [plots(lines)]),
        Section(
            "How many concepts can be merged",
            f"Before the mean identity accuracy falls below {MIN_IDENTITY}.",
            rows=merge_capacity(lines),
        ),
        Section("Identity and alignment", "", rows=[_cells(line, kept) for line in lines]),
        Section("Leakage and time", "", rows=[_cells(line, leaked) for line in lines]),
    ]
    if compared := placements(rows):
        words = (
            "Each adapter in the top singular columns minus itself in each matrix's own bottom ones, in random blocks "
            "of those that the base stores, in a random orthonormal basis, or in columns sampled without coordination; "
            "mean over numbers of concepts and seeds ± standard deviation. "
            "Above zero the top columns are better, except for leakage."
        )
        sections.insert(3, Section("Top, bottom and random columns", words, rows=compared))
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
    return Page("composition", "Composition: many concepts in one picture", sections, rows)
