"""A concept on DreamBench's prompts: the verb behind `studio evaluate`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from concepts import Concept, LibraryError
from studio.metrics.dino import load_backbone
from studio.metrics.dreambench import PICTURES, Kind, Measured, kind_of, mean, measure
from studio.models.generation_request import GenerationRequest
from studio.models.sampling_settings import SamplingSettings
from studio.models.token_embeddings import token_of
from ui.services.image_files import png_bytes, save_new
from ui.services.workflow import Workflow


def dreambench(
    workflow: Workflow,
    name: str,
    kind: Kind | None = None,
    dino: str | None = None,
    settings: SamplingSettings | None = None,
    folder: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """The measures of the prompts and their means, as far as they are generated, after each of the 25 prompts; by the
    workflow's scorer, and a DINO backbone if one is named.

    They are called CLIP-I, CLIP-T and DINO only where real backbones gave them. Pictures are kept in `folder`.
    Raises LibraryError for a concept that is not trained or has no pictures to compare with.
    """
    concept = comparable(workflow, name)
    chosen = kind or kind_of(concept.class_word)
    scorer, vision = workflow.scorer, load_backbone(dino) if dino else None

    def generate(prompt: str) -> Sequence[Image.Image]:
        given = {} if settings is None else settings.model_dump(exclude_unset=True)
        generated = workflow.generate(GenerationRequest(prompt=prompt, num_images=PICTURES, **given))
        if folder is not None:
            _keep(folder, prompt, generated)
        return generated

    rows: list[Measured] = []
    real = workflow.pictures(concept)
    for measured in measure(generate, token_of(concept.name), concept.class_word, real, chosen, scorer, vision):
        rows.append(measured)
        yield {
            "benchmark": "dreambench", "concept": concept.name, "kind": chosen, "pictures_per_prompt": PICTURES,
            "backbones": {"image_and_text": scorer.backbone, "dino": vision and vision.name},
            **_table(rows, real_clip=scorer.backbone != "toybox-clip"),
        }  # fmt: skip


def comparable(workflow: Workflow, name: str) -> Concept:
    """The concept, if it is trained and has pictures."""
    concept = workflow.library.concept(name)
    workflow.trained(name)
    if not concept.pictures:
        raise LibraryError(f'"{concept.name}" has no pictures to compare with. Evaluate a concept that has pictures.')
    return concept


def _table(rows: Sequence[Measured], real_clip: bool) -> dict[str, Any]:
    names = ("CLIP-I", "CLIP-T", "DINO") if real_clip else ("image_alignment", "text_alignment", "DINO")

    def row(measured: Measured) -> dict[str, Any]:
        values = dict(zip(names, (measured.image, measured.text, measured.dino), strict=True))
        return {"prompt": measured.prompt, **values}

    return {"measures": list(names), "mean": row(mean(rows)), "prompts": [row(measured) for measured in rows]}


def _keep(folder: Path, prompt: str, pictures: Sequence[Image.Image]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = "-".join(prompt.replace("<", "").replace(">", "").split())
    for seed, picture in enumerate(pictures):
        save_new(folder, f"{stem}-{seed}", png_bytes(picture, {"prompt": prompt, "seed": str(seed)}))
