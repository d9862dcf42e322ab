"""Several concepts in one image, scored: the verb behind `studio evaluate --benchmark multi`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from concepts.errors import StudioError
from studio.metrics.collapse import DINOV2_THRESHOLDS, collapse, similarities, subject_crops
from studio.metrics.dino import load_backbone
from studio.metrics.multi_subject import PICTURES, listed, templates
from studio.models.families import OTHER
from studio.models.generation_request import GenerationRequest
from studio.models.regions.region import crop
from studio.models.token_embeddings import token_of
from ui.services.gallery import save_masks, with_settings
from ui.services.image_files import save_new
from ui.services.scoring.dreambench import comparable
from ui.services.workflow import Workflow

Regions = Literal["auto", "boxes", "none"]
Embed = Callable[[Sequence[Image.Image]], Tensor]


def evaluate_together(
    workflow: Workflow,
    names: Sequence[str],
    regions: Regions = "auto",
    method: str | None = None,
    dino: str | None = None,
    settings: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """The measures as far as they are generated, after each prompt: the Subject Collapse Rate and who was taken for
    whom, by the workflow's scorer, by its identity network with the calibrated threshold if it has one, and by a DINO
    backbone if one is named; and text alignment.

    Each subject is judged in its region: the one that was found, its box (equal columns), or with "none" where the
    attention was. Images are kept in `folder`. Raises LibraryError for a concept that is not trained or has no images
    to compare with, and StudioError for fewer than two.
    """
    judged = _Judged(workflow, names, dino)
    scenes = templates(simple=workflow.family is OTHER)
    rows: list[dict[str, Any]] = []
    for scene, template in scenes:
        prompt = template.format(listed([token_of(name) for name in judged.names]))
        request = GenerationRequest(
            prompt=prompt, num_images=PICTURES, method=method, auto_regions=regions == "auto",
            regions=_columns(judged.names) if regions == "boxes" else {}, **(settings or {}),
        )  # fmt: skip
        rows.append({"scene": scene, "prompt": workflow.plain(prompt), **judged.measured(request, folder)})
        yield {
            "benchmark": "multi", "concepts": list(judged.names), "regions": regions, "method": method,
            "pictures_per_prompt": PICTURES, "prompts_of": len(scenes), "prompts": rows, **judged.summary(),
            "text_alignment": sum(row["text_alignment"] for row in rows) / len(rows),
        }  # fmt: skip


def _columns(names: Sequence[str]) -> dict[str, tuple[float, float, float, float]]:
    """A box for each concept, equal columns from left to right."""
    return {name: (0.0, i / len(names), 1.0, (i + 1) / len(names)) for i, name in enumerate(names)}


class _Judged:
    """The concepts with the embeddings of their references by each judge, and the similarities found so far."""

    def __init__(self, workflow: Workflow, names: Sequence[str], dino: str | None):
        if len({name.lower() for name in names}) < 2:
            raise StudioError("This benchmark is for several concepts. Name two or more.")
        concepts = [comparable(workflow, name) for name in dict.fromkeys(names)]
        self.workflow, self.names = workflow, [concept.name for concept in concepts]
        self._judges: dict[str, Embed] = {workflow.scorer.backbone: workflow.scorer.embed_pictures}
        self._thresholds: dict[str, tuple[float, ...]] = {}
        self._minimum: dict[str, float] = {}
        identifier = workflow.scorer.identifier
        if identifier and identifier.thresholds:
            judge = f"{workflow.scorer.backbone}, identity"
            self._judges[judge] = lambda pictures: workflow.scorer.extract_features(pictures).vectors
            self._minimum[judge] = identifier.thresholds.similarity
        if dino:
            vision = load_backbone(dino)
            self._judges[vision.name] = vision.embed_pictures
            self._thresholds[vision.name] = DINOV2_THRESHOLDS
        real = [workflow.pictures(concept) for concept in concepts]
        self._references = {judge: [embed(own) for own in real] for judge, embed in self._judges.items()}
        self._found: dict[str, list[Tensor]] = {judge: [] for judge in self._judges}

    def measured(self, request: GenerationRequest, folder: Path | None) -> dict[str, Any]:
        """One prompt's measures: the collapse rate by each judge, and text alignment."""
        masks: dict[int, Mapping[str, Image.Image]] = {}
        images: dict[int, Image.Image] = {}
        for seed, image in self.workflow.generate_each(request, on_masks=masks.__setitem__, located=True):
            images[seed] = image
            if folder is not None:
                _keep(folder, request, seed, image, masks.get(seed, {}))
        crops = [self._crops(image, masks.get(seed), request) for seed, image in images.items()]
        rates = {}
        for judge, embed in self._judges.items():
            by_subject = [embed([own[index] for own in crops]) for index in range(len(self.names))]
            self._found[judge].append(similarities(by_subject, self._references[judge]))
            rates[judge] = collapse(self.names, self._found[judge][-1], self._minimum.get(judge)).rate
        plain = self.workflow.plain(request.prompt)
        alignment = self.workflow.scorer.text_alignment([*images.values()], plain).mean().item()
        return {"collapse_rate": rates, "text_alignment": alignment}

    def _crops(
        self, image: Image.Image, masks: Mapping[str, Image.Image] | None, request: GenerationRequest
    ) -> list[Image.Image]:
        if masks:
            levels = np.stack([np.asarray(masks[name], np.float32) for name in self.names])
            return subject_crops(image, torch.from_numpy(levels) / 255)
        return [crop(image, box) for box in request.regions.values() if not isinstance(box, str)]

    def summary(self) -> dict[str, Any]:
        """Of all prompts so far: for each judge the collapse rate, by threshold where it has some, and the confusion
        matrix, a row for each subject.
        """
        judges = {}
        for judge, found in self._found.items():
            together = torch.cat(found)
            whole = collapse(self.names, together, self._minimum.get(judge))
            rates = {
                f"SCR@{threshold:g}": collapse(self.names, together, threshold).rate
                for threshold in self._thresholds.get(judge, ())
            }
            judges[judge] = {
                "collapse_rate": whole.rate, **rates,
                "confusion": {
                    name: dict(zip(whole.columns, row, strict=True))
                    for name, row in zip(self.names, whole.confusion.tolist(), strict=True)
                },
                "similarity": dict(zip(self.names, whole.similarity.tolist(), strict=True)),
            }  # fmt: skip
        return {"judges": judges}


def _keep(
    folder: Path, request: GenerationRequest, seed: int, image: Image.Image, masks: Mapping[str, Image.Image]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = "-".join(request.prompt.replace("<", "").replace(">", "").replace(",", "").split())
    save_masks(save_new(folder, f"{stem}-{seed}", with_settings(image, request, seed)), masks)
