"""The report of an ablation study: a table and a picture grid of each group of variants."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from training.reporting.html_report import Section, picture_of
from training.studies.ablations import GROUPS, SIMILAR
from training.studies.study_page import Page
from training.studies.summaries import summarised, with_spread

MEASURES = {
    "image_alignment": "image alignment", "text_alignment": "text alignment", "identity": "identity accuracy",
}  # fmt: skip
TITLES = {
    "hydra": "Hydra: parallel, sequential and both branches with one budget",
    "hydra_location": "Hydra: where the branches are, with one budget",
    "lora_xs": "LoRA-XS: the frozen vectors",
    "ada_link": "AdaLink, beside the token alone and LoRA",
}
BRANCHES = ("parallel", "sequential")

Rows = Sequence[Mapping[str, Any]]


def ablations_page(folder: Path, rows: Rows, settings: Mapping[str, Any], backbone: str) -> Page:
    """The study's page, from its rows."""
    sections = [
        Section(
            TITLES[group], _text(own, settings, backbone), [picture_grid(folder, own)],
            [_cells(line, own) for line in summarised(own, ("variant",), (*MEASURES, "trained"))],
        )
        for group in GROUPS if (own := [row for row in rows if row["group"] == group])
    ]  # fmt: skip
    return Page("ablations", "Ablations: Hydra, LoRA-XS and AdaLink", sections, _flat(rows))


def _text(rows: Rows, settings: Mapping[str, Any], backbone: str) -> str:
    concepts, seeds = (sorted({row[key] for row in rows}) for key in ("concept", "seed"))
    budget = f", at most {settings['budget']:,} parameters besides the token" if "hydra" in rows[0]["group"] else ""
    similar = (
        f" The similarity is Hydra's Eq. 14 of each branch and the frozen weight, by {SIMILAR} directions, the mean "
        "over the layers."
        if any(f"similarity_{branch}" in row for row in rows for branch in BRANCHES)
        else ""
    )
    return (
        f"{', '.join(concepts)}, {len(seeds)} seed(s), {settings['steps']} steps with each adapter's default learning "
        f"rates{budget}; without the preservation loss. Scored by {backbone} on {4 * settings['pictures']} pictures "
        "per training. Values are means over concepts and seeds ± their standard deviation; the token is counted."
        f"{similar}"
    )


def _cells(line: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
    cells = {"variant": line["variant"], "trained parameters": f"{line['trained']:,.0f}", "trainings": line["n"]}
    cells |= {title: with_spread(line, measure) for measure, title in MEASURES.items()}
    for branch in BRANCHES:
        values = [v for row in rows if row["variant"] == line["variant"] and (v := row.get(f"similarity_{branch}"))]
        if any(f"similarity_{branch}" in row for row in rows):
            cells[f"similarity, {branch}"] = f"{sum(values) / len(values):.3f}" if values else ""
    return cells


def picture_grid(folder: Path, rows: Rows) -> Image.Image:
    """The pictures of the first concept and seed: a row for each variant, a column for each prompt."""
    first = rows[0]
    own = [row for row in rows if (row["concept"], row["seed"]) == (first["concept"], first["seed"])]
    figure = Figure(figsize=(8, 1.7 * len(own)), layout="constrained")
    for axes, row in zip(figure.subplots(len(own), 1, squeeze=False)[:, 0], own, strict=True):
        with Image.open(folder / "pictures" / row["pictures"]) as strip:
            axes.imshow(strip.convert("RGB"))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_ylabel(row["variant"].replace(", ", "\n"), rotation=0, ha="right", va="center", fontsize=9)
    return picture_of(figure)


def _flat(rows: Rows) -> list[dict[str, Any]]:
    """The rows for a table, which has the columns of all groups."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key, "") for key in keys} for row in rows]
