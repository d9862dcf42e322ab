"""The composition study: trains 2 to 8 sample concepts, merges them by every method, and scores the pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from PIL import Image

from concepts import atomic_write
from concepts.errors import StudioError
from concepts.samples import SAMPLES
from studio.adapters.concept_file import TrainedConcept, from_bytes, to_bytes
from studio.adapters.registry import method_named
from studio.composition.merge import MergeCache
from studio.composition.merge_config import MergeConfig
from studio.metrics.clip import Scorer
from studio.metrics.leakage import drift, leak_prompts
from studio.models.base_model import Base, generate_images
from studio.models.regions.region import Region, crop
from studio.models.sampling_settings import SamplingSettings
from studio.models.token_embeddings import token_of
from studio.serving.serving import Serving
from training.config.recipe import Recipe
from training.engine.trainer import train_concept
from training.studies.merged_and_unmerged import ImageGenerator, Merged, Unmerged
from training.studies.pairs import PAIRS, UNMERGED, VARIANTS, Pair, first_column
from training.studies.rows import Row, Rows
from training.studies.scoring import ConceptScorer
from training.studies.summaries import mean_of

ORDER = ("milo", "rex", "azura", "gizmo", "saffron", "bruno", "rosa", "volta")
"""The sample concepts in the order in which they are added: four kinds first, then a second one of each."""
TOGETHER = "a photo of {} on the grass"
GRIDS = {1: (1, 1), 2: (1, 2), 3: (1, 3), 4: (2, 2), 6: (2, 3), 8: (2, 4)}
"""Rows and columns of regions by number of concepts, each region as large as a picture of one concept."""


@dataclass(frozen=True)
class Settings:
    """Everything that determines the rows: the base's fingerprint, training, and how much is generated."""

    base: str
    rank: int = 8
    steps: int = 120
    batch_size: int = 8
    num_class_images: int = 48
    pictures: int = 4
    """Pictures of each prompt for one concept, and a quarter of those with all concepts."""
    num_inference_steps: int = 20


def boxes(count: int) -> list[tuple[float, float, float, float]]:
    """The regions of `count` concepts in one picture: top, left, bottom, right."""
    if count not in GRIDS:
        raise StudioError(f"{count} is not a possible number of concepts. Choose from {', '.join(map(str, GRIDS))}.")
    rows, columns = GRIDS[count]
    return [
        (row / rows, column / columns, (row + 1) / rows, (column + 1) / columns)
        for row in range(rows)
        for column in range(columns)
    ]


Pictures = dict[str, tuple[list[str], list[Image.Image]]]  # prompts and their pictures, by kind


class CompositionStudy:
    """A study in a folder: concepts, rows and picture grids are files there; existing ones are reused."""

    def __init__(self, folder: Path, base: Base, scorer: Scorer, settings: Settings):
        self.folder, self.base, self.scorer, self.settings = folder, base, scorer, settings
        self.rows = Rows(folder, asdict(settings) | {"backbone": scorer.backbone})
        self.concept_scorer = ConceptScorer(scorer)
        self.merges = MergeCache(base, 1)
        self._plain: dict[int, Pictures] = {}

    def run(
        self,
        counts: Sequence[int],
        seeds: Sequence[int],
        pairs: Sequence[Pair] = PAIRS,
        on_row: Callable[[Row], None] = lambda _: None,
    ) -> list[Row]:
        """All requested rows, seed by seed; those of an earlier run are reused."""
        for count in counts:
            boxes(count)
        rows = []
        for seed in seeds:
            for count in counts:
                for pair in pairs:
                    rows.append(self.row(pair, count, seed))
                    on_row(rows[-1])
        return rows

    def row(self, pair: Pair, count: int, seed: int) -> Row:
        """The row of one pair, number of concepts and seed, from the folder if it exists."""
        return self.rows.row(f"{pair}-{count}-{seed}", lambda: self._measured(pair, count, seed))

    def _measured(self, pair: Pair, count: int, seed: int) -> Row:
        concepts = {name: self.concept(pair.adapter, pair.variant, name, seed) for name in ORDER[:count]}
        plain = self._base_pictures(count)
        row = {**asdict(pair), "pair": str(pair), "count": count, "seed": seed}
        began = perf_counter()
        with self._image_generator(pair, concepts) as image_generator:
            row["merge_seconds"] = perf_counter() - began
            row |= self._alone(image_generator, concepts, seed)
            row |= self._together(
                image_generator, concepts, seed, self.rows.place("grids", f"{pair}-{count}-{seed}.png")
            )
            row |= self._leak(image_generator, plain)
        return row

    def concept(self, adapter: str, variant: str, name: str, seed: int) -> TrainedConcept:
        """The sample concept trained this way, from the folder if it exists; every one has its own columns."""
        path = self.rows.place("concepts", f"{adapter}-{variant or 'default'}-{name}-{seed}.safetensors")
        if path.exists():
            return from_bytes(path.read_bytes(), str(path))
        own = self.settings
        options: dict[str, Any] = {
            "adapter": adapter, "seed": seed, "rank": own.rank, "steps": own.steps, "batch_size": own.batch_size,
            "num_class_images": own.num_class_images, **VARIANTS[variant],
        }  # fmt: skip
        recipe = Recipe(**options)
        pictures = self.concept_scorer.judge.references[name]
        place, capacity = ORDER.index(name), self.base.decomposition.capacity
        first = first_column(variant, place, own.rank, capacity, seed) if method_named(adapter).owns_block else 0
        trained = train_concept(
            self.base, name, SAMPLES[name].class_word, pictures, recipe, first, self.folder / "priors"
        )
        atomic_write(path, to_bytes(trained.concept))
        return trained.concept

    @contextmanager
    def _image_generator(self, pair: Pair, concepts: Mapping[str, TrainedConcept]) -> Iterator[ImageGenerator]:
        if pair.method == UNMERGED:
            with Serving(self.base, concepts) as serving:
                yield Unmerged(serving, self._generate_settings)
        else:
            with self.merges.applied(concepts, MergeConfig(pair.method, averaged=pair.averaged)):
                yield Merged(self.base, self._generate_settings)

    @property
    def _generate_settings(self) -> SamplingSettings:
        return SamplingSettings(num_inference_steps=self.settings.num_inference_steps, batch_size=8)

    def _alone(
        self, image_generator: ImageGenerator, concepts: Mapping[str, TrainedConcept], seed: int
    ) -> dict[str, Any]:
        """Each concept alone from the model with all: identity accuracy and alignments, and the worst identity."""
        found = [
            self.concept_scorer.generate_and_score(image_generator, name, self.settings.pictures, seed)
            for name in concepts
        ]
        return {
            "alone_identity": mean_of([one.identity for one in found]),
            "alone_identity_worst": min(one.identity for one in found),
            "alone_image_alignment": mean_of([one.image for one in found]),
            "alone_text_alignment": mean_of([one.text for one in found]),
        }

    def _together(
        self, image_generator: ImageGenerator, concepts: Mapping[str, TrainedConcept], seed: int, grid: Path
    ) -> dict[str, Any]:
        """All in one picture, each in its region: identity accuracy and alignment by region."""
        named = TOGETHER.format(" and ".join(map(token_of, concepts)))
        places = dict(zip(concepts, boxes(len(concepts)), strict=True))
        regions = {name: Region(TOGETHER.format(token_of(name)), *box) for name, box in places.items()}
        rows, columns = GRIDS[len(concepts)]
        width, height = columns * self.base.side, rows * self.base.side
        seeds = range(1000 * seed, 1000 * seed + 4 * self.settings.pictures)
        pictures = image_generator.together(named, seeds, regions, (width, height))
        shown = pictures[: max(1, 8 // columns)]
        strip = Image.new("RGB", (len(shown) * width, height))
        for index, picture in enumerate(shown):
            strip.paste(picture, (index * width, 0))
        strip.save(grid)
        identity, image = zip(
            *(
                self.concept_scorer.scores_of(name, [crop(picture, box) for picture in pictures])
                for name, box in places.items()
            ),
            strict=True,
        )
        return {
            "region_identity": mean_of(identity), "region_identity_worst": min(identity),
            "region_image_alignment": mean_of(image),
        }  # fmt: skip

    def _base_pictures(self, count: int) -> Pictures:
        """The base's own pictures of prompts that name no concept, by kind with their prompts; generated once."""
        if count not in self._plain:
            prompts = leak_prompts([SAMPLES[name].class_word for name in ORDER[:count]])
            self._plain[count] = {
                kind: (group, generate_images(self.base, group, range(len(group)), self._generate_settings))
                for kind, group in prompts.items()
            }
        return self._plain[count]

    def _leak(self, image_generator: ImageGenerator, plain: Pictures) -> dict[str, Any]:
        """Leakage: the change of pictures of the class words, and of unrelated things."""
        found: dict[str, Any] = {}
        for kind, (prompts, before) in plain.items():
            moved = drift(self.scorer, before, image_generator.unnamed(prompts, range(len(prompts))))
            found |= {f"leak_{kind}": moved.distance, f"leak_{kind}_pixels": moved.pixels}
        return found
