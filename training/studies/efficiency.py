"""The efficiency study: trains sample concepts by every method at several sizes, and scores the pictures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from PIL import Image

from concepts.samples import SAMPLES
from studio.adapters.cost import Shapes, shapes_of
from studio.composition.merge import MergeCache
from studio.composition.merge_config import MergeConfig
from studio.metrics.clip import Scorer
from studio.models.base_model import Base
from studio.models.sampling_settings import SamplingSettings
from training.config.recipe import Recipe
from training.engine.train_state import DivergenceError
from training.engine.trainer import train_concept
from training.studies.budgets import METHODS, OTHERS, Size, budgets, default_size, nearest_to_a_tenth, own_kinds
from training.studies.merged_and_unmerged import Merged
from training.studies.rows import Row, Rows
from training.studies.scoring import ConceptScorer, ConceptScores

CONCEPTS = ("azura", "milo", "gizmo")
"""A vase, a cat and a robot."""
TEXT_SHARE = 1 / 4
"""The text encoder's learning rate as a fraction of the UNet's, the same for all methods."""


@dataclass(frozen=True)
class Settings:
    """Everything that determines the rows: the base's fingerprint, training, the learning rate search, and sampling."""

    base: str
    steps: int = 120
    search_steps: int = 60
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2)
    """The UNet's learning rates to search, for every size of every method."""
    batch_size: int = 8
    num_class_images: int = 48
    pictures: int = 2
    """Pictures of each prompt."""
    num_inference_steps: int = 20
    sites: tuple[str, ...] = ("attention",)
    """The kinds of layers that are adapted, keys of studio.layers.target_modules.KINDS; by default the paper's."""


class EfficiencyStudy:
    """A study in a folder, whose rows are files there."""

    def __init__(self, folder: Path, base: Base, scorer: Scorer, settings: Settings):
        self.folder, self.base, self.settings = folder, base, settings
        self.rows = Rows(folder, asdict(settings) | {"backbone": scorer.backbone})
        self.concept_scorer = ConceptScorer(scorer)
        self._merges = MergeCache(base, 0)

    @cached_property
    def shapes(self) -> Shapes:
        """The shapes of the layers that are adapted."""
        return shapes_of(self.base.sites_of(self.settings.sites))

    def sizes(self, methods: Sequence[str] = (*METHODS, *OTHERS), count: int = 4) -> list[Size]:
        """The sizes to compare, each method's smallest first; fewer than four are nearest to a tenth of LoRA's. Methods
        beyond METHODS have their default size, and come last.
        """
        searched = [method for method in methods if method in METHODS]
        each = [nearest_to_a_tenth(budgets(method, self.shapes), self.shapes, count) for method in searched]
        others = [default_size(m, self.base.parts, self.settings.sites) for m in methods if m not in METHODS]
        return [size for column in zip_longest(*each) for size in column if size] + others

    def trainings(self, sizes: Sequence[Size], concepts: int, seeds: int) -> int:
        """The number of rows of a run, each of which is a training or the base's."""
        once = sum(size.rate is not None for size in sizes)
        return once + (len(sizes) - once) * (concepts * seeds + len(self.settings.rates)) + concepts * seeds

    def run(
        self,
        sizes: Sequence[Size],
        concepts: Sequence[str],
        seeds: Sequence[int],
        on_row: Callable[[Row], None] = lambda _: None,
    ) -> list[Row]:
        """All requested rows, all sizes of one concept and seed before the next, and the rows of the searches."""
        rows = []
        for row in self._rows(sizes, concepts, seeds):
            rows.append(row)
            on_row(row)
        return rows

    def _rows(self, sizes: Sequence[Size], concepts: Sequence[str], seeds: Sequence[int]) -> Iterator[Row]:
        for seed in seeds:
            for concept in concepts:
                yield self.rows.row(f"base-{concept}-{seed}", lambda c=concept, s=seed: self._base_row(c, s))
                first = (concept, seed) == (concepts[0], seeds[0])
                for size in sizes:
                    if size.rate is not None:
                        if first:
                            yield self.row("compared", size, concept, seed, size.rate, self.settings.steps)
                        continue
                    searched = self.search(size)
                    if first:
                        yield from searched
                    yield self.row("compared", size, concept, seed, best_rate(searched), self.settings.steps)

    def found(self, sizes: Sequence[Size]) -> list[Row]:
        """The existing rows of these sizes: the searches, and the trainings with the chosen learning rates."""
        rows = self.rows.found()
        base = [row for row in rows if row.get("kind") == "base"]
        return base + [row for size in sizes for row in self._found(size, [r for r in rows if size.made(r)])]

    def _found(self, size: Size, rows: Sequence[Row]) -> list[Row]:
        own = self.settings
        if size.rate is not None:
            return [row | {"kind": "compared"} for row in rows]
        searched = [r for r in rows if (r["concept"], r["seed"], r["steps"]) == (CONCEPTS[0], 0, own.search_steps)]
        if len(searched) < len(own.rates):
            return []
        rate = best_rate(searched)
        compared = [row for row in rows if (row["rate"], row["steps"]) == (rate, own.steps)]
        return [row | {"kind": "searched"} for row in searched] + [row | {"kind": "compared"} for row in compared]

    def search(self, size: Size) -> list[Row]:
        """One short training with each learning rate, on the first concept."""
        return [
            self.row("searched", size, CONCEPTS[0], 0, rate, self.settings.search_steps) for rate in self.settings.rates
        ]

    def row(self, kind: str, size: Size, concept: str, seed: int, rate: float, steps: int) -> Row:
        """The row of one training, from the folder if it exists; a search's row may also be the comparison's."""
        name = f"{size}-{concept}-{seed}-{rate:g}-{steps}"
        return self.rows.row(name, lambda: self._measured(name, size, concept, seed, rate, steps)) | {"kind": kind}

    def _measured(self, name: str, size: Size, concept: str, seed: int, rate: float, steps: int) -> Row:
        row = {
            "method": size.method, "options": size.options, "trained": size.trained, "concept": concept, "seed": seed,
            "rate": rate, "steps": steps, "diverged": False,
        }  # fmt: skip
        options = dict(size.options)
        recipe = Recipe.model_validate({
            "adapter": size.method, "rank": options.pop("rank", None), "options": options, "seed": seed,
            "steps": steps, "target_modules": None if own_kinds(size.method) else self.settings.sites,
            **({} if size.rate is not None else {"unet_lr": rate, "text_encoder_lr": rate * TEXT_SHARE}),
            "batch_size": self.settings.batch_size,
            "output_preservation_weight": 0.0, "num_class_images": self.settings.num_class_images,
        })  # fmt: skip
        try:
            trained = train_concept(
                self.base, concept, SAMPLES[concept].class_word, self.concept_scorer.judge.references[concept], recipe,
                cache=self.folder / "priors",
            )  # fmt: skip
        except DivergenceError:
            return row | {"diverged": True}
        with self._merges.applied({concept: trained.concept}, MergeConfig("fedavg")):
            scores = self.concept_scorer.generate_and_score(
                self._image_generator, concept, self.settings.pictures, seed
            )
        return row | self._scores(name, scores) | {"train_seconds": trained.record.seconds}

    def _base_row(self, concept: str, seed: int) -> Row:
        """The scores of the base alone, with the class word."""
        subject = f"a {SAMPLES[concept].class_word}"
        scores = self.concept_scorer.generate_and_score(
            self._image_generator, concept, self.settings.pictures, seed, subject
        )
        return {"kind": "base", "concept": concept, "seed": seed} | self._scores(f"base-{concept}-{seed}", scores)

    @property
    def _image_generator(self) -> Merged:
        return Merged(self.base, SamplingSettings(num_inference_steps=self.settings.num_inference_steps, batch_size=8))

    def _scores(self, name: str, scores: ConceptScores) -> Row:
        """The row's metrics; one picture of each prompt is saved."""
        shown = scores.pictures[:: self.settings.pictures]
        strip = Image.new("RGB", (len(shown) * self.base.side, self.base.side))
        for index, picture in enumerate(shown):
            strip.paste(picture, (index * self.base.side, 0))
        strip.save(self.rows.place("pictures", f"{name}.png"))
        return {
            "pictures": f"{name}.png", "image_alignment": scores.image, "text_alignment": scores.text,
            "identity": scores.identity,
        }  # fmt: skip


def best_rate(searched: Sequence[dict[str, Any]]) -> float:
    """The learning rate of highest image alignment; the lowest one where all diverged."""
    good = [row for row in searched if not row["diverged"]]
    return max(good, key=lambda row: row["image_alignment"])["rate"] if good else min(row["rate"] for row in searched)
