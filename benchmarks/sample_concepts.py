"""Trains the twelve sample concepts by the default recipe, and measures their identity accuracy beside a control.

The control is what the untouched base generates for the sample's full description. `uv run python -m
benchmarks.sample_concepts`; a concept that is in the results already is not trained again.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image, ImageDraw

from benchmarks.common import RESULTS, started
from concepts import atomic_write
from concepts.samples import PICTURES_EACH, SAMPLES
from studio.models.generation_request import GenerationRequest
from studio.models.token_embeddings import token_of
from training.config.recipe import Recipe
from training.reporting.html_report import table
from training.reporting.image_grid import png_bytes
from training.reporting.timing import machine
from training.toybox.evaluation.sample_identity import PROMPTS, SampleJudge
from ui.services.workflow import Workflow

EACH = 4
"""Pictures of each prompt, with seeds 0 to 3."""
SIDE, LABEL = 96, 64
"""The side of a picture in the sheet, and the width of its first column, in pixels."""
COLUMNS = ("concept", "identity accuracy, by seed", "control", "above the control")


def pictures_of(workflow: Workflow, subject: str) -> list[Image.Image]:
    """EACH pictures of each of PROMPTS."""
    return [
        picture
        for prompt in PROMPTS
        for picture in workflow.generate(GenerationRequest(prompt=prompt.format(subject), num_images=EACH))
    ]


def measured(
    workflow: Workflow, judge: SampleJudge, name: str, seeds: int, kept: Path
) -> tuple[dict[str, Any], list[list[Image.Image]]]:
    """The sample's row, and its own pictures, the first seed's generated ones, and the control's.

    Generated pictures are in the folder `kept`; what is there already is judged only.
    """
    sample, last = SAMPLES[name], kept / name / f"seed-{seeds - 1}" / f"{EACH * len(PROMPTS) - 1:02d}.png"
    if not last.exists():
        workflow.library.add_concept(name, sample.class_word, sample.pictures)
        _save(kept / name / "control", pictures_of(workflow, sample.description))
        for seed in range(seeds):
            workflow.train(name, Recipe(seed=seed))
            _save(kept / name / f"seed-{seed}", pictures_of(workflow, token_of(name)))
    control, generated = _read(kept / name / "control"), [_read(kept / name / f"seed-{seed}") for seed in range(seeds)]
    row = {
        "identity": [judge.identity_accuracy(name, pictures) for pictures in generated],
        "control": judge.identity_accuracy(name, control),
    }
    return row, [judge.references[name], generated[0][::EACH], control[::EACH]]


def _save(folder: Path, pictures: Sequence[Image.Image]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        picture.save(folder / f"{index:02d}.png")


def _read(folder: Path) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]


def with_row(sheet: Image.Image | None, name: str, groups: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """The sheet of all samples with this one's row, its groups of pictures apart from each other."""
    width = LABEL + (PICTURES_EACH + 2 * len(PROMPTS)) * SIDE + 2 * LABEL // 4
    sheet = sheet or Image.new("RGB", (width, len(SAMPLES) * SIDE), "white")
    top, x = list(SAMPLES).index(name) * SIDE, LABEL
    ImageDraw.Draw(sheet).text((4, top + SIDE // 2 - 6), name, fill="black")
    for group in groups:
        for picture in group:
            sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, top))
            x += SIDE
        x += LABEL // 4
    return sheet


def as_markdown(document: Mapping[str, Any], meaning: str) -> str:
    """The results as Markdown."""
    rows, means = [], {}
    for name, row in document["concepts"].items():
        means[name] = float(np.mean(row["identity"]))
        own = ", ".join(f"{share:.2f}" for share in row["identity"])
        above = "yes" if means[name] > row["control"] else "no"
        rows.append([name, own, f"{row['control']:.2f}", above])
    above = sum(row[-1] == "yes" for row in rows)
    return (
        f"# The sample concepts by the default recipe\n\n{above} of {len(rows)} concepts are above the control; mean "
        f"identity accuracy {np.mean(list(means.values())):.2f}, control "
        f"{np.mean([row['control'] for row in document['concepts'].values()]):.2f}.\n\n{document['machine']} "
        f"{len(PROMPTS) * EACH} pictures of each. Identity accuracy is {meaning}. The control is the untouched base "
        f"with the sample's full description (`concepts.samples`).\n\n{table(COLUMNS, rows)}\n\n"
        "![Own pictures, generated ones, and the control](sample_concepts.png)\n\nFrom left to right: the concept's "
        f"own pictures, the first picture of each prompt ({', '.join(PROMPTS)}), and the control's of the same prompts "
        "and seeds.\n"
    )


def main(
    concept: Annotated[list[str] | None, typer.Option(help="Sample concepts; all if unset.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each.")] = 1,
    base: Annotated[str, typer.Option(help="toybox, or a folder of a base like it.")] = "toybox",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    pictures: Annotated[
        Path | None, typer.Option(help="A folder to keep the generated pictures in; those there are judged again only.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where table and sheet go.")] = RESULTS,
) -> None:
    """Train, and write sample_concepts.json, .md and .png after every concept."""
    torch.set_num_threads(threads)
    results.mkdir(parents=True, exist_ok=True)
    file, picture = results / "sample_concepts.json", results / "sample_concepts.png"
    with tempfile.TemporaryDirectory() as folder:
        workflow = Workflow(folder, base)
        judge = SampleJudge(workflow.scorer)
        settings = {"base": base, "fingerprint": workflow.base.decomposition.fingerprint, "seeds": seeds}
        document = started(file, settings, "concepts")
        document.setdefault("machine", machine())
        for name in concept or SAMPLES:
            if name in document["concepts"]:
                continue
            print(f"training {name}")
            document["concepts"][name], groups = measured(
                workflow, judge, name, seeds, pictures or Path(folder) / "pictures"
            )
            sheet = with_row(Image.open(picture).convert("RGB") if picture.exists() else None, name, groups)
            atomic_write(picture, png_bytes(sheet))
            atomic_write(file, (json.dumps(document, indent=2) + "\n").encode())
            atomic_write(results / "sample_concepts.md", as_markdown(document, judge.meaning).encode())
    print(as_markdown(document, judge.meaning))


if __name__ == "__main__":
    typer.run(main)
