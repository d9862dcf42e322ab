"""The verbs of the studio, each short: add pictures, train, merge, generate, score."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from torch import get_num_threads

from concepts import ColumnBlock, Concept, Job, atomic_write
from concepts.errors import StudioError
from concepts.storage import StoragePath
from studio.adapters.concept_file import TrainedConcept, config_of, to_bytes
from studio.adapters.cost import Cost
from studio.composition import sharing_notes
from studio.composition.interference import Interference, interference
from studio.composition.merge import merged_concept
from studio.composition.merge_config import MergeConfig
from studio.metrics.clip import Scorer, load_scorer, scorer_of
from studio.metrics.leakage import leak, leak_prompts
from training.config.recipe import Recipe
from training.engine.trainer import Progress, never_stop
from training.jobs.library_training import PREVIEWS as PREVIEWS
from training.jobs.library_training import (
    Scores,
    Trained,
    aligned,
    order_of,
    pictures_of,
    refuse_without_pictures,
    space_of,
)
from training.jobs.library_training import summary as summary
from training.jobs.train_with_columns import cost, train
from training.jobs.training_notes import training_notes
from training.jobs.variants import Training, add_variant, refuse_other_pictures
from ui.services.generation import ImageGenerator
from ui.services.named_concepts import known_strengths


class Workflow(ImageGenerator):
    """One library and one base, loaded when first needed."""

    def __init__(self, root: StoragePath | str, base: str = "toybox", backbone: str | None = None):
        super().__init__(root, base)
        self._backbone = backbone

    @cached_property
    def scorer(self) -> Scorer:
        """The model that scores: the one asked for, else that of the base's family."""
        return load_scorer(self._backbone or scorer_of(self.family))

    def pictures(self, concept: Concept) -> list[Image.Image]:
        """A concept's own pictures."""
        return pictures_of(concept)

    def train(
        self,
        name: str,
        recipe: Recipe,
        on_progress: Callable[[Progress], None] = lambda _: None,
        start: TrainedConcept | None = None,
        column: int | None = None,
        stop: Callable[[], bool] = never_stop,
    ) -> Trained:
        """Trains a concept, generates previews, scores them and stores the result, which replaces an earlier one.

        The arguments are those of `training.train`.
        """
        return train(
            self.library, self.base, name, recipe, lambda: self.scorer, on_progress, start, column, stop
        )  # fmt: skip

    def training_notes(self, names: Sequence[str], recipe: Recipe) -> list[str]:
        """What a person should know before these concepts are trained; each is told once."""
        return training_notes(self.library, [(name, recipe) for name in names])

    def cost(self, recipe: Recipe) -> Cost:
        """What a recipe trains on this base, and the size of its file. Raises StudioError for what does not fit."""
        return cost(self.base, recipe)

    def queue(
        self,
        names: Sequence[str],
        recipe: Recipe,
        column: int | None = None,
        priority: int = 0,
        batch: str | None = None,
    ) -> list[Job]:
        """Queues trainings for a worker, all or none; their columns are allocated now, in this order."""
        return self.queue_trainings([Training(name, name, recipe) for name in names], column, priority, batch)

    def queue_trainings(
        self,
        trainings: Sequence[Training],
        column: int | None = None,
        priority: int = 0,
        batch: str | None = None,
    ) -> list[Job]:
        """Queues trainings as `queue` does; variants that the library lacks are added to it as concepts."""
        for known in self.library.find_concepts([training.name for training in trainings]):
            self.library.jobs.refuse_waiting(known.name)
        for training in trainings:
            refuse_without_pictures(self.library.concept(training.source))
            refuse_other_pictures(self.library, training.source, training.name)
        orders = [
            order_of(self.base, training.name, self._on_any_machine(training.recipe), column, priority=priority)
            for training in trainings
        ]
        for training in trainings:
            add_variant(self.library, training.source, training.name)
        return self.library.jobs.queue(orders, batch=batch)

    def _on_any_machine(self, recipe: Recipe) -> Recipe:
        """The recipe with its threads: what it becomes must not depend on who trains it."""
        return recipe.model_copy(update={"threads": recipe.threads or get_num_threads()})

    def claim(self, name: str, trained: TrainedConcept) -> ColumnBlock | None:
        """Records the columns of a concept that was trained elsewhere; the block says what overlaps.

        None where its method has no columns of its own.
        """
        config, base = config_of(trained), self.base.decomposition
        space = space_of(trained.adapter, config)
        if space is None:
            return None
        return self.library.allocate_columns(
            name, base.fingerprint, config.rank, base.capacity, config.first_column, space
        )

    def merge(
        self,
        names: Sequence[str],
        output: Path,
        config: MergeConfig | None = None,
        on_note: Callable[[str], None] = lambda _: None,
        on_interference: Callable[[Sequence[Interference]], None] = lambda _: None,
    ) -> TrainedConcept:
        """Writes several concepts as one file, which `generate` takes in place of a name.

        `on_note` is told what a person should know about the merge, such as columns that two concepts share, and
        `on_interference` how far the concepts interfere, before they are merged.
        """
        if len(set(names)) < len(names):
            raise StudioError("One of these concepts is named twice. Merge each concept once.")
        trained, config = {name: self.loaded(name) for name in names}, config or MergeConfig()
        config = replace(config, strengths=known_strengths(config.strengths, trained, self.base))
        on_interference(interference(trained))
        merged = merged_concept(self.base, trained, config)
        if not output.parent.is_dir():
            raise StudioError(f"The folder {output.parent} does not exist. Create it, or choose another.")
        atomic_write(output, to_bytes(merged))
        for note in sharing_notes(trained):
            on_note(note)
        return merged

    def score(self, pictures: Sequence[Image.Image], prompt: str, references: Sequence[Image.Image] = ()) -> Scores:
        """How near pictures are to a prompt and, when given, to references."""
        return aligned(self.scorer, pictures, prompt, references)

    def leak(self, name: str) -> dict[str, Any]:
        """How far pictures of the class word, and of unrelated things, move when this concept is in the base."""
        concept, trained = self.library.concept(name), {name: self.loaded(name)}
        prompts = leak_prompts([concept.class_word])
        found = leak(self.base, lambda: self.merges.applied(trained, MergeConfig()), self.scorer, prompts)
        return {"backbone": self.scorer.backbone, **{kind: asdict(drift) for kind, drift in found.items()}}
