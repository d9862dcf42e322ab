"""The demo, end to end: two sample concepts are trained, generated alone and together, and scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.progress import Progress as Bar

from concepts import LibraryError, read_picture
from concepts.samples import SAMPLES
from concepts.storage import StoragePath
from studio.models.generation_request import GenerationRequest
from studio.models.regions.region import crop
from studio.models.token_embeddings import token_of
from training.config.recipe import Recipe
from training.reporting.html_report import Section, loss_curves, write_report
from training.toybox.evaluation.sample_identity import PROMPTS, SampleJudge
from ui.cli.demo_pictures import Shown, overview, sheet, together
from ui.cli.demo_training import train_side_by_side
from ui.cli.options import progress_bar
from ui.services.generation import UNMERGED
from ui.services.workflow import Scores, Workflow, summary

NAMES = ("saffron", "azura")
RECIPE = Recipe(adapter="spectral_additive", rank=8)
TOGETHER = "a photo of {} and {} on the beach"
EACH, BOTH = 4, 16
"""Pictures of each prompt for one concept, and of the prompt for both."""
BOXES = ((0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0))
"""Where each of the two is generated: top, left, bottom, right."""


def run_demo(out: Path, library: StoragePath | str, base: str) -> dict[str, Any]:
    """Runs the demo in this library; writes PNG grids and report.html to `out`, returns the scores.

    Raises LibraryError when the library holds other concepts of the demo's names.
    """
    out.mkdir(parents=True, exist_ok=True)
    workflow = Workflow(library, base)
    for name in NAMES:
        _add(workflow, name)
    with progress_bar() as bar:
        trained = train_side_by_side(workflow, NAMES, RECIPE, bar)
        alone = {name: _generate_alone(workflow, name, bar) for name in NAMES}
        whole, whole_base, crop = _generate_together(workflow, bar)
    judge = SampleJudge(workflow.scorer)
    document = {
        "backbone": workflow.scorer.backbone,
        "identity_accuracy": judge.meaning,
        "concepts": {n: {**_scores(judge, n, alone[n]), "seconds": trained[n].seconds} for n in NAMES},
        "together": {n: {**_scores(judge, n, crop[n]), "seconds": trained[n].seconds} for n in NAMES},
    }
    both = " and ".join(NAMES)
    grids = {f"{name}.png": sheet(name, judge.references[name], alone[name], PROMPTS) for name in NAMES}
    grids["together.png"] = together(both, whole, whole_base)
    grids["demo.png"] = overview({name: (judge.references[name], alone[name]) for name in NAMES}, EACH, both, whole)
    losses = {name: training.losses for name, training in trained.items()}
    return {**document, "report": str(_write(out, document, grids, losses))}


def _add(workflow: Workflow, name: str) -> None:
    """Adds the sample concept, unless an earlier run did."""
    sample = SAMPLES[name]
    known = {concept.name: concept for concept in workflow.library.concepts()}
    if name not in known:
        workflow.library.add_concept(name, sample.class_word, sample.pictures)
        return
    pairs = zip(workflow.pictures(known[name]), sample.pictures, strict=False)
    if any(own.tobytes() != read_picture(path, path.name).tobytes() for own, path in pairs):
        raise LibraryError(f'The library already has another concept "{name}". Choose another --library.')


def _generate_alone(workflow: Workflow, name: str, bar: Bar) -> Shown:
    task = bar.add_task(f"generating {name}", total=2 * len(PROMPTS) * EACH, note="")
    pictures, base_pictures, prompts = [], [], []
    for index, template in enumerate(PROMPTS):
        prompt = template.format(token_of(name))
        seeds: dict[str, Any] = {"seed": 100 * index, "num_images": EACH}
        plain = workflow.plain(prompt)
        pictures += workflow.generate(GenerationRequest(prompt=prompt, **seeds))
        base_pictures += workflow.generate(GenerationRequest(prompt=plain, **seeds))
        prompts += [plain] * EACH
        bar.advance(task, 2 * EACH)
    return Shown(pictures, base_pictures, prompts)


def _generate_together(workflow: Workflow, bar: Bar) -> tuple[list[Image.Image], list[Image.Image], dict[str, Shown]]:
    """Both concepts in one picture, each in its region; the pictures, the base's, and each concept's crop of them."""
    task = bar.add_task("generating both", total=2 * BOTH, note="")
    prompt = TOGETHER.format(*map(token_of, NAMES))
    boxes: dict[str, tuple[float, float, float, float]] = dict(zip(NAMES, BOXES, strict=True))
    side = workflow.base.side
    shared: dict[str, Any] = {"size": (2 * side, side), "num_images": BOTH}
    whole = workflow.generate(GenerationRequest(prompt=prompt, method=UNMERGED, regions=boxes, **shared))
    bar.advance(task, BOTH)
    base = workflow.generate(GenerationRequest(prompt=workflow.plain(prompt), **shared))
    bar.advance(task, BOTH)
    parts = {
        name: Shown(_cut(whole, box), _cut(base, box), [workflow.plain(f"a photo of {token_of(name)}")] * BOTH)
        for name, box in zip(NAMES, BOXES, strict=True)
    }
    return whole, base, parts


def _cut(pictures: Sequence[Image.Image], box: tuple[float, float, float, float]) -> list[Image.Image]:
    """The box's part of each picture."""
    return [crop(picture, box) for picture in pictures]


def _scores(judge: SampleJudge, name: str, shown: Shown) -> dict[str, float]:
    scorer = judge.scorer

    def aligned(pictures: Sequence[Image.Image]) -> dict[str, Any]:
        image = scorer.image_alignment(pictures, judge.references[name]).tolist()
        text = [scorer.text_alignment([p], t)[0].item() for p, t in zip(pictures, shown.prompts, strict=True)]
        return summary(Scores(scorer.backbone, image, text))

    with_concept, without = aligned(shown.pictures), aligned(shown.base_pictures)
    return {
        "image_alignment": with_concept["image_alignment"],
        "text_alignment": with_concept["text_alignment"],
        "base_image_alignment": without["image_alignment"],
        "base_text_alignment": without["text_alignment"],
        "identity_accuracy": judge.identity_accuracy(name, shown.pictures),
    }


def _write(out: Path, document: dict[str, Any], grids: dict[str, Image.Image], losses: dict[str, list[float]]) -> Path:
    for file, picture in grids.items():
        picture.save(out / file)
    sections = []
    for name in NAMES:
        sample = SAMPLES[name]
        sections.append(Section(
            f"{name}, {sample.description}",
            f"Trained in {document['concepts'][name]['seconds']:.0f} seconds on its own pictures, the first row. "
            "Compare colours, pattern and accessory of the images on the left with them; on the right is what the base "
            f"generates for “a {sample.class_word}” with the same seeds.",
            [grids[f"{name}.png"]],
        ))  # fmt: skip
    sections.append(Section("Both in one picture", "Not merged: each concept is applied in its own half only.",
                            [grids["together.png"]]))  # fmt: skip
    sections.append(Section("Loss", "The loss of every step, smoothed.", [loss_curves(losses)]))
    rows = [
        {"concept": name if part == "concepts" else f"{name}, in one picture", **document[part][name]}
        for part in ("concepts", "together") for name in NAMES
    ]  # fmt: skip
    text = (
        f"Alignment is the mean cosine in the embedding of {document['backbone']}; identity accuracy is "
        f"{document['identity_accuracy']}."
    )
    sections.append(Section("Scores", text, [], rows))
    return write_report(out / "report.html", "Concept Studio: the demo", sections)
