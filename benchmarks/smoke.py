"""Trains one sample concept by every method with its default learning rates, and compares it with the base alone.

`uv run python -m benchmarks.smoke`; a method that is in the results already is not trained again.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import torch
import typer

from benchmarks.common import RESULTS, started
from concepts import atomic_write
from concepts.errors import StudioError
from concepts.samples import SAMPLES
from studio.adapters import ADAPTERS
from studio.models.generation_request import GenerationRequest
from training.config.recipe import Recipe
from training.data.augmentation import Example
from training.data.dataset import build_training_set
from training.reporting.html_report import table
from training.reporting.timing import machine
from ui.cli.demo_run import RECIPE
from ui.services.workflow import PREVIEWS, Trained, Workflow, summary

COLUMNS = (
    "method", "trained parameters", "loss at start", "loss at end", "image alignment", "image alignment of the base",
    "seconds", "smoke test",
)  # fmt: skip


def base_alignment(workflow: Workflow, name: str) -> float:
    """The image alignment of what the base generates for the sample's full description, with the previews' seeds."""
    prompt, concept = f"a photo of {SAMPLES[name].description}", workflow.library.concept(name)
    pictures = workflow.generate(GenerationRequest(prompt=prompt, num_images=PREVIEWS))
    return summary(workflow.score(pictures, prompt, workflow.pictures(concept)))["image_alignment"]


def measured(trained: Trained, seconds: float) -> dict[str, Any]:
    """The row of a method; the losses are means over a tenth of the steps."""
    tenth = max(1, len(trained.losses) // 10)
    return {
        "parameters": trained.result.parameters,
        "first_loss": sum(trained.losses[:tenth]) / tenth,
        "last_loss": sum(trained.losses[-tenth:]) / tenth,
        "image_alignment": trained.result.scores["image_alignment"],
        "seconds": seconds,
    }


def prepare(workflow: Workflow, name: str) -> None:
    """Generates the class images, which all methods share, so that none of them is measured with it."""
    concept, cache = workflow.library.concept(name), workflow.library.local / "priors"
    examples = [Example(picture) for picture in workflow.pictures(concept)]
    build_training_set(workflow.base, examples, concept.class_word, Recipe(), cache)


def train(workflow: Workflow, name: str, recipe: Recipe) -> dict[str, Any]:
    """Trains the concept by one method; its row, or why it could not be trained."""
    began = perf_counter()
    try:
        trained = workflow.train(name, recipe)
    except StudioError as error:
        return {"refused": str(error)}
    return measured(trained, perf_counter() - began)


def passed(row: Mapping[str, Any], base: float) -> bool:
    """Whether the loss fell and the pictures are nearer to the concept's than the base's are."""
    return row["last_loss"] < row["first_loss"] and row["image_alignment"] > base


def as_table(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    rows: list[Sequence[str]] = []
    for method, row in document["methods"].items():
        if "refused" in row:
            rows.append([method, row["refused"], *[""] * (len(COLUMNS) - 2)])
            continue
        numbers = (row["first_loss"], row["last_loss"], row["image_alignment"], document["base_image_alignment"])
        outcome = "passed" if passed(row, document["base_image_alignment"]) else "failed"
        cells = [f"{row['parameters']:,}", *(f"{n:.4f}" for n in numbers), f"{row['seconds']:.0f}", outcome]
        rows.append([method, *cells])
    settings = document["settings"]
    return (
        f"# Every method on one concept\n\n{document['machine']} `{settings['concept']}` on {settings['base']}, "
        f"{settings['steps']} steps, learning rates and sizes as each method has them by default. Losses are means "
        f"over the first and the last tenth of the steps; image alignment is that of {PREVIEWS} previews by "
        f"{document['backbone']}, beside what the untouched base generates for the sample's full description. Seconds "
        "include the previews.\n\n"
        f"{table(COLUMNS, rows)}\n"
    )


def main(
    method: Annotated[list[str] | None, typer.Option(help="Methods to train; all if unset.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = RECIPE.steps,
    concept: Annotated[str, typer.Option(help="One of the sample concepts.")] = "milo",
    base: Annotated[str, typer.Option(help="toybox, a diffusers folder, or a model of the hub.")] = "toybox",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    results: Annotated[Path, typer.Option(help="Where the tables go.")] = RESULTS,
) -> None:
    """Train, and write smoke.json and smoke.md after every method."""
    torch.set_num_threads(threads)
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        workflow = Workflow(folder, base)
        sample = SAMPLES[concept]
        workflow.library.add_concept(concept, sample.class_word, sample.pictures)
        prepare(workflow, concept)
        fingerprint = workflow.base.decomposition.fingerprint
        settings = {
            "concept": concept, "base": base, "fingerprint": fingerprint, "steps": steps, "control": "description"
        }  # fmt: skip
        document = started(results / "smoke.json", settings, "methods")
        if "base_image_alignment" not in document:
            alignment = base_alignment(workflow, concept)
            document |= {"base_image_alignment": alignment, "backbone": workflow.scorer.backbone, "machine": machine()}
        for name in method or ADAPTERS:
            if name not in document["methods"]:
                print(f"training {concept} by {name}")
                document["methods"][name] = train(workflow, concept, Recipe(adapter=name, steps=steps))
            atomic_write(results / "smoke.json", (json.dumps(document, indent=2) + "\n").encode())
            atomic_write(results / "smoke.md", as_table(document).encode())
    print(as_table(document))


if __name__ == "__main__":
    typer.run(main)
