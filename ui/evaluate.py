"""A concept on DreamBench's prompts: the verb behind `studio evaluate`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from concepts import LibraryError
from studio.backbones import load_backbone
from studio.dreambench import PICTURES, Kind, Measured, kind_of, mean, measure
from studio.paint_settings import PaintSettings
from training.task import token_of
from ui.pictures import png_bytes, save_new
from ui.workflow import Workflow


def run_dreambench(
    workflow: Workflow,
    name: str,
    kind: Kind | None = None,
    dino: str | None = None,
    settings: PaintSettings | None = None,
    folder: Path | None = None,
    on_prompt: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The measures of every prompt and their means, by the workflow's scorer and a DINO backbone if one is named.

    They are called CLIP-I, CLIP-T and DINO only where real backbones gave them. Pictures are kept in `folder`.
    Raises LibraryError for a concept that is not trained or has no pictures to compare with.
    """
    concept = workflow.library.concept(name)
    workflow.trained(name)
    if not concept.pictures:
        raise LibraryError(f'"{concept.name}" has no pictures to compare with: evaluate one that was added with some.')
    chosen = kind or kind_of(concept.class_word)
    scorer, vision = workflow.scorer, load_backbone(dino) if dino else None

    def paint(prompt: str) -> Sequence[Image.Image]:
        painted = workflow.generate(prompt, seeds=range(PICTURES), settings=settings)
        for seed, picture in enumerate(painted if folder else ()):
            assert folder is not None
            folder.mkdir(parents=True, exist_ok=True)
            stem = "-".join(prompt.replace("<", "").replace(">", "").split())
            save_new(folder, f"{stem}-{seed}", png_bytes(picture, {"prompt": prompt, "seed": str(seed)}))
        on_prompt()
        return painted

    real = workflow.pictures(concept)
    rows = measure(paint, token_of(concept.name), concept.class_word, real, chosen, scorer, vision)
    real_clip = scorer.backbone != "toybox-clip"
    names = ("CLIP-I", "CLIP-T", "DINO") if real_clip else ("image_alignment", "text_alignment", "DINO")

    def row(measured: Measured) -> dict[str, Any]:
        values = dict(zip(names, (measured.image, measured.text, measured.dino), strict=True))
        return {"prompt": measured.prompt, **values}

    return {
        "benchmark": "dreambench",
        "concept": concept.name,
        "kind": chosen,
        "pictures_per_prompt": PICTURES,
        "backbones": {"image_and_text": scorer.backbone, "dino": vision and vision.name},
        "measures": list(names),
        "mean": row(mean(rows)),
        "prompts": [row(measured) for measured in rows],
    }
