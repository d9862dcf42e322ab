"""The ablations of Hydra, LoRA-XS and AdaLink in small: trains sample concepts by every variant, and scores them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from concepts.errors import StudioError
from concepts.samples import SAMPLES
from studio.composition.loaded_concept import load_concept
from studio.composition.merge import MergeCache
from studio.composition.merge_config import MergeConfig
from studio.metrics.clip import Scorer
from studio.metrics.subspace_similarity import left_directions, subspace_similarity
from studio.metrics.weight_analysis import branches_of
from studio.models.base_model import Base
from studio.models.sampling_settings import SamplingSettings
from training.config.recipe import Recipe
from training.config.recipe_resolution import resolve_recipe
from training.engine.trainer import Training, train_concept
from training.reporting.image_grid import grid
from training.studies.merged_and_unmerged import Merged
from training.studies.rows import Row, Rows
from training.studies.scoring import ConceptScorer

CONCEPTS = ("azura", "milo", "gizmo")
"""A vase, a cat and a robot."""
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "hydra": {
        "parallel": {"adapter": "lora"},
        "sequential": {"adapter": "seq_lora"},
        "both": {"adapter": "hydra"},
    },
    "hydra_location": {
        name: {"adapter": "hydra", "target_modules": (name,)}
        for name in ("attention", "feed_forward", "feed_forward_out")
    },
    "lora_xs": {
        **{f"{basis}, {'with' if kept else 'without'} singular values": {
            "adapter": "lora_xs", "rank": 16, "options": {"basis": basis, "singular_values": kept},
        } for basis in ("top", "bottom", "random_svd") for kept in (True, False)},
        "random_orthogonal": {"adapter": "lora_xs", "rank": 16, "options": {"basis": "random_orthogonal"}},
    },
    "ada_link": {
        "token alone": {"adapter": "textual_inversion"},
        **{name: {"adapter": "ada_link", "options": {"position": name}}
           for name in ("input", "output", "latents", "input_and_latents")},
        "input, gelu": {"adapter": "ada_link", "options": {"position": "input", "activation": "gelu"}},
        "lora, rank 1": {"adapter": "lora", "rank": 1},
    },
}  # fmt: skip
"""The variants of each group, as options of the recipe. Those of Hydra's groups have one budget: `budget`."""
SIMILAR = 8
"""The number of directions of the subspace similarity of Hydra's branches with the frozen weight."""


@dataclass(frozen=True)
class Settings:
    """Everything that determines the rows: the base's fingerprint, training and sampling.

    `budget` is the maximum of trained parameters of each variant in Hydra's groups.
    """

    base: str
    budget: int
    steps: int = 120
    num_class_images: int = 48
    pictures: int = 2
    num_inference_steps: int = 20


class AblationStudy:
    """A study in a folder, whose rows are files there."""

    def __init__(self, folder: Path, base: Base, scorer: Scorer, settings: Settings):
        self.folder, self.base, self.settings = folder, base, settings
        self.rows = Rows(folder, asdict(settings) | {"backbone": scorer.backbone})
        self.concept_scorer = ConceptScorer(scorer)
        self._merges = MergeCache(base, 0)

    def run(
        self,
        groups: Sequence[str],
        concepts: Sequence[str],
        seeds: Sequence[int],
        on_row: Callable[[Row], None] = lambda _: None,
    ) -> list[Row]:
        """All requested rows, all variants of one concept and seed before the next."""
        rows = []
        for row in self._rows(groups, concepts, seeds):
            rows.append(row)
            on_row(row)
        return rows

    def _rows(self, groups: Sequence[str], concepts: Sequence[str], seeds: Sequence[int]) -> Iterator[Row]:
        check_groups(groups)
        for seed in seeds:
            for concept in concepts:
                for group in groups:
                    for index, variant in enumerate(GROUPS[group]):
                        name = f"{group}-{index}-{concept}-{seed}"
                        yield self.rows.row(name, lambda n=name, g=group, v=variant, c=concept, s=seed: (
                            self._measured(n, g, v, c, s)
                        ))  # fmt: skip

    def recipe(self, group: str, variant: str, seed: int) -> Recipe:
        """The recipe of a variant, with its learning rates by default and without the preservation loss."""
        own = dict(GROUPS[group][variant])
        if group.startswith("hydra"):
            own["max_parameters"] = self.settings.budget
        return Recipe.model_validate({
            **own, "seed": seed, "steps": self.settings.steps, "output_preservation_weight": 0.0,
            "num_class_images": self.settings.num_class_images,
        })  # fmt: skip

    def _measured(self, name: str, group: str, variant: str, concept: str, seed: int) -> Row:
        recipe = resolve_recipe(self.base, self.recipe(group, variant, seed))
        training = train_concept(
            self.base, concept, SAMPLES[concept].class_word, self.concept_scorer.judge.references[concept], recipe,
            cache=self.folder / "priors",
        )  # fmt: skip
        sampling = SamplingSettings(num_inference_steps=self.settings.num_inference_steps, batch_size=8)
        with self._merges.applied({concept: training.concept}, MergeConfig("fedavg")):
            scores = self.concept_scorer.generate_and_score(
                Merged(self.base, sampling), concept, self.settings.pictures, seed
            )
        shown = scores.pictures[:: self.settings.pictures]
        grid(shown, len(shown)).save(self.rows.place("pictures", f"{name}.png"))
        return {
            "group": group, "variant": variant, "adapter": recipe.adapter, "concept": concept, "seed": seed,
            "trained": training.record.trained, "pictures": f"{name}.png", "image_alignment": scores.image,
            "text_alignment": scores.text, "identity": scores.identity,
            **{f"similarity_{branch}": value for branch, value in self._similarities(training).items()},
        }  # fmt: skip

    @torch.no_grad()
    def _similarities(self, training: Training) -> dict[str, float]:
        """The mean subspace similarity of each of Hydra's branches with the frozen weights, over all layers."""
        loaded, found = load_concept(self.base, training.concept), dict[str, list[float]]()
        for name, adapter in loaded.modules.items():
            weight = loaded.sites[name].weight
            for branch, change in branches_of(adapter, weight).items():
                count = min(SIMILAR, *weight.shape)
                own, directions = torch.linalg.svd(weight.double()).U[:, :count], left_directions(change, count)
                if directions.shape[1]:
                    found.setdefault(branch, []).append(subspace_similarity(own, directions))
        return {branch: sum(values) / len(values) for branch, values in found.items()}


def check_groups(groups: Sequence[str]) -> None:
    """Raises StudioError for a group that does not exist."""
    if unknown := next((group for group in groups if group not in GROUPS), None):
        raise StudioError(f"There is no ablation {unknown!r}. Choose from {', '.join(GROUPS)}.")
