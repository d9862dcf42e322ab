"""The report of an efficiency study: alignment by trained parameters, picture grids, and the learning rates found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from training.reporting.html_report import Section, picture_of
from training.studies.budgets import METHODS, OTHERS
from training.studies.efficiency import CONCEPTS
from training.studies.efficiency_criteria import evaluate_claims
from training.studies.study_page import Page
from training.studies.summaries import mean_of, summarised, with_spread

MEASURES = {
    "image_alignment": "image alignment", "text_alignment": "text alignment", "identity": "identity accuracy",
}  # fmt: skip
MARKERS = "osDv^P*Xd<>"

Rows = Sequence[Mapping[str, Any]]


def summary(rows: Rows) -> list[dict[str, Any]]:
    """Mean and spread (standard deviation over concepts and seeds) of every measure, by method and size."""
    compared = [row for row in rows if row["kind"] == "compared" and not row["diverged"]]
    lines = summarised(compared, ("method", "trained"), tuple(MEASURES))
    order = list(dict.fromkeys(line["method"] for line in lines))
    return sorted(lines, key=lambda line: (order.index(line["method"]), line["trained"]))


def plots(lines: Rows, base: Rows) -> Image.Image:
    """Each metric by trained parameters, one line per method of METHODS, with the spread as error bars, and a labelled
    point for each of the others; the base is dashed.
    """
    figure = Figure(figsize=(15, 5), layout="constrained")
    for axes, (measure, title) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        for line in (line for line in lines if line["method"] in OTHERS and line["trained"]):
            axes.plot(line["trained"], line[measure], marker=".", color="#888888")
            axes.annotate(line["method"], (line["trained"], line[measure]), fontsize=6, color="#555555")
        searched = dict.fromkeys(line["method"] for line in lines if line["method"] in METHODS)
        for marker, method in zip(MARKERS, searched, strict=False):
            own = [line for line in lines if line["method"] == method]
            axes.errorbar(
                [line["trained"] for line in own], [line[measure] for line in own],
                [line[f"{measure}_spread"] or 0.0 for line in own],
                label=method, marker=marker, markersize=5, capsize=2, linewidth=1,
            )  # fmt: skip
        axes.axhline(mean_of([row[measure] for row in base]), color="#888888", linestyle="--", linewidth=0.8)
        axes.set(title=title, xlabel="trained parameters", xscale="log")
    if handles := figure.axes[0].get_legend_handles_labels()[0]:
        figure.legend(handles=handles, loc="outside right upper", fontsize=9)
    return picture_of(figure)


def picture_grid(folder: Path, rows: Rows, concept: str, seed: int) -> Image.Image:
    """One training's first picture in every cell: one row per method, its sizes from left to right."""
    own = [row for row in rows if (row["concept"], row["seed"]) == (concept, seed)]
    methods = {
        name: sorted((r for r in own if r["method"] == name), key=lambda r: r["trained"])
        for name in dict.fromkeys(r["method"] for r in own)
    }
    across = max(len(members) for members in methods.values())
    figure = Figure(figsize=(1.6 * across + 1.6, 1.75 * len(methods)), layout="constrained")
    grid = figure.subplots(len(methods), across, squeeze=False)
    for axes, (method, members) in zip(grid, methods.items(), strict=True):
        axes[0].set_ylabel(method, rotation=0, ha="right", va="center", fontsize=9)
        for panel, row in zip(axes, [*members, *[None] * (across - len(members))], strict=True):
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
            if row:
                panel.set_title(f"{row['trained']:,}", fontsize=8)
                with Image.open(folder / "pictures" / row["pictures"]) as strip:
                    panel.imshow(strip.convert("RGB").crop((0, 0, strip.height, strip.height)))
    return picture_of(figure)


def efficiency_page(folder: Path, rows: Rows, settings: Mapping[str, Any], backbone: str) -> Page:
    """The study's page, from its rows, including those of searches and of the base."""
    lines, trainings = summary(rows), [row for row in rows if row["kind"] != "base"]
    compared = [row for row in trainings if row["kind"] == "compared" and not row["diverged"]]
    base = [row for row in rows if row["kind"] == "base"]
    concepts, seeds = (sorted({row[key] for row in compared}) for key in ("concept", "seed"))
    seconds = mean_of([row["row_seconds"] for row in trainings])
    diverged = sum(row["diverged"] for row in trainings)
    text = (
        f"{', '.join(concepts)}, {len(seeds)} seed(s), {settings['steps']} steps of batch {settings['batch_size']} at "
        f"these layers of UNet and text encoder: {', '.join(settings['sites'])}; without the preservation loss. "
        f"Scored by {backbone} on {4 * settings['pictures']} pictures per training. Values are means over concepts and "
        f"seeds ± their standard deviation. A training with its pictures took {seconds:.0f} s; {diverged} of "
        f"{len(trainings)} diverged. "
        "Grey points are methods in their default size with their default learning rates, on one concept and seed. "
        "Dashed are the base's pictures of the class word. The concept's token is trained with every method, and "
        "not counted."
    )
    searched = (
        f"Every size of these methods was trained on {CONCEPTS[0]} for {settings['search_steps']} steps with each of "
        "these learning rates of the UNet, a quarter of it for the text encoder; the one of highest image alignment "
        "was chosen. Where that is the first or the last of them, the best may lie beyond."
    )
    first = compared[0]
    sections = [
        Section("Alignment by trained parameters", text, [plots(lines, base)]),
        Section("A tenth of LoRA's parameters", _claims_text(compared), rows=evaluate_claims(compared)),
        Section(
            "Pictures", f"“a photo of {first['concept']}”, the first seed.",
            [picture_grid(folder, compared, first["concept"], first["seed"])],
        ),
        Section("Table", "", rows=[_cells(line) for line in lines]),
        Section("Learning rates", searched, rows=_rates(trainings, settings)),
    ]  # fmt: skip
    return Page("efficiency", "Efficiency: how few parameters a concept needs", sections, _flat(rows))


def _claims_text(compared: Rows) -> str:
    lines = evaluate_claims(compared)
    if not lines:
        return "Not measured: this needs LoRA, and a spectral rotation with a tenth of its parameters."
    kept = sum(line["holds"] == "yes" for line in lines)
    return (
        f"The largest spectral rotation with at most a tenth of LoRA's parameters at rank 1, compared with that LoRA, "
        f"and with OFT and LiDB within the same tenth, or at their minimum: {kept} of {len(lines)} comparisons "
        "agree with the paper. Differences are of the same concept and seed."
    )


def _cells(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the summary as a table shows it."""
    cells = {"method": line["method"], "trained parameters": f"{line['trained']:,}", "trainings": line["n"]}
    return cells | {title: with_spread(line, measure) for measure, title in MEASURES.items()}


def _rates(trainings: Rows, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The search's image alignment by method, size and learning rate, and the chosen learning rate."""
    searched = [row for row in trainings if row["kind"] == "searched"]
    taken = {(r["method"], r["trained"]): r["rate"] for r in trainings if r["kind"] == "compared"}
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in searched:
        key = (row["method"], row["trained"])
        line = found.setdefault(key, {"method": row["method"], "trained parameters": f"{row['trained']:,}"})
        line[f"{row['rate']:g}"] = "diverged" if row["diverged"] else row["image_alignment"]
    wanted = [f"{rate:g}" for rate in settings["rates"]]
    return [
        {**line, **{rate: line.get(rate, "") for rate in wanted}, "chosen": f"{taken[key]:g}" if key in taken else ""}
        for key, line in found.items()
    ]


def _flat(rows: Rows) -> list[dict[str, Any]]:
    """The rows for a table: every measure of every training."""
    keys = (
        "kind", "method", "trained", "options", "concept", "seed", "rate", "steps", "diverged", *MEASURES,
        "train_seconds", "row_seconds",
    )  # fmt: skip
    return [{key: row.get(key, "") for key in keys} for row in rows]
