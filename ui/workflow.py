"""The verbs of the studio, each short: add pictures, train, merge, generate, score."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from concepts import ColumnBlock, Concept, Result, atomic_write, read_picture
from concepts.ledger import Space
from concepts.storage import remove
from studio.adapters import ADAPTERS
from studio.checkpoint import TrainedConcept, to_bytes
from studio.composition import sharing_notes
from studio.composition.session import Plan, merged_concept
from studio.errors import StudioError
from studio.leak import leak, leak_prompts
from studio.scoring import Scorer, load_scorer
from training.loop import Progress, Stopped, Training, never, train_concept
from training.methods import adapter_config, kinds_of_recipe, within_budget
from training.recipe import Recipe
from training.task import token_of
from ui.painting import Painter, known_strengths
from ui.pictures import grid, png_bytes

PREVIEWS = 4


@dataclass(frozen=True)
class Trained:
    """What `Workflow.train` gives: the stored result, the loss of every step, the preview pictures."""

    result: Result
    losses: list[float]
    previews: list[Image.Image]


@dataclass(frozen=True)
class Scores:
    """Alignment of pictures, in the terms of one backbone: per picture, None where nothing was compared with."""

    backbone: str
    image: list[float] | None
    text: list[float]


class Workflow(Painter):
    """One library and one base, loaded when first needed."""

    def __init__(self, root: Path | str, base: str = "toybox", backbone: str = "toybox-clip"):
        super().__init__(root, base)
        self._backbone = backbone

    @cached_property
    def scorer(self) -> Scorer:
        """The model that scores."""
        return load_scorer(self._backbone)

    def pictures(self, concept: Concept) -> list[Image.Image]:
        """A concept's own pictures."""
        return [read_picture(path, str(path)) for path in concept.pictures]

    def train(
        self,
        name: str,
        recipe: Recipe,
        on_progress: Callable[[Progress], None] = lambda _: None,
        start: TrainedConcept | None = None,
        column: int | None = None,
        stop: Callable[[], bool] = never,
    ) -> Trained:
        """Trains a concept, paints previews, scores them and stores the result, which replaces an earlier one.

        With `start`, what `trained` gave, the training goes on from there. `column` asks the ledger for the columns
        from there, in place of the lowest free ones. A training that was stopped by `stop`, which raises Stopped, or
        killed goes on where it was when it is asked for in the same way again.
        """
        concept = self.library.concept(name)
        recipe = within_budget(self.base, recipe)
        cache, checkpoints = self.library.root / "priors", self.library.checkpoints(concept)
        with self._columns(concept, recipe, start, column) as first:
            try:
                training = train_concept(
                    self.base, concept.name, concept.class_word, self.pictures(concept), recipe, first, cache,
                    on_progress, start, checkpoints, stop=stop,
                )  # fmt: skip
                trained = self._store(concept, training, recipe)
            except Stopped as stopped:  # caught in here, so that the concept keeps its columns until it goes on
                trained = stopped
        if isinstance(trained, Stopped):
            raise trained
        remove(checkpoints)
        return trained

    def _store(self, concept: Concept, training: Training, recipe: Recipe) -> Trained:
        """Paints previews of what was trained, scores them and stores it all."""
        prompt = f"a photo of {token_of(concept.name)}"
        previews = self._paint({concept.name: training.concept}, prompt, range(PREVIEWS))
        scores = self.score(previews, self.plain(prompt), self.pictures(concept))
        trained = training.concept
        trained.metadata["scores"] = summary(scores)
        details = {
            "base": trained.base,
            "adapter": trained.adapter,
            "rank": trained.config.get("rank", 0),
            "parameters": sum(t.numel() for state in trained.adapters.values() for t in state.values()),
            "scores": trained.metadata["scores"],
            "recipe": recipe.model_dump(),
            "losses": training.losses,
        }
        result = self.library.store_result(concept.name, to_bytes(trained), details, png_bytes(grid(previews)))
        return Trained(result, training.losses, previews)

    @contextmanager
    def _columns(
        self, concept: Concept, recipe: Recipe, start: TrainedConcept | None, column: int | None
    ) -> Iterator[int]:
        """The first of the concept's columns, which it keeps if the training ends well; 0 where it needs none.

        Every site is checked first, so that a refusal changes nothing.
        """
        if start is not None:
            yield 0
            return
        config = adapter_config(recipe)
        method = ADAPTERS[recipe.adapter]
        for site in self.base.sites_of(kinds_of_recipe(recipe, config)).values():
            method.check(tuple(site.weight.shape), config, site.name)
        if not method.owns_block:
            yield 0
            return
        base, space = self.base.decomposition, _space(recipe.adapter)
        with self.library.columns_for_result(
            concept.name, base.fingerprint, config.rank, base.capacity, column, space
        ) as block:
            yield block.start

    def claim(self, name: str, trained: TrainedConcept) -> ColumnBlock | None:
        """Enters the columns of a concept that was trained elsewhere in the ledger; the block tells what overlaps.

        None where its method has no columns of its own.
        """
        if not ADAPTERS[trained.adapter].owns_block:
            return None
        base, width, first = self.base.decomposition, trained.config["rank"], trained.config["first_column"]
        space = _space(trained.adapter)
        return self.library.allocate_columns(name, base.fingerprint, width, base.capacity, first, space)

    def merge(
        self,
        names: Sequence[str],
        output: Path,
        method: str | None = None,
        strengths: Mapping[str, float] | None = None,
        averaged: bool = False,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> TrainedConcept:
        """Writes several concepts as one file, which `generate` takes in place of a name.

        `on_note` is told what a person should know about the merge, such as columns that two concepts share.
        """
        if len(set(names)) < len(names):
            raise StudioError("Merge each concept once: one of these is named twice.")
        trained = {name: self.trained(name) for name in names}
        merged = merged_concept(self.base, trained, method, known_strengths(strengths, trained), averaged)
        if not output.parent.is_dir():
            raise StudioError(f"Make the folder {output.parent} first, or choose another file: it does not exist.")
        atomic_write(output, to_bytes(merged))
        for note in sharing_notes(trained):
            on_note(note)
        return merged

    def score(self, pictures: Sequence[Image.Image], prompt: str, references: Sequence[Image.Image] = ()) -> Scores:
        """How near pictures are to a prompt and, when given, to references."""
        image = self.scorer.image_alignment(pictures, references).tolist() if references else None
        return Scores(self.scorer.backbone, image, self.scorer.text_alignment(pictures, prompt).tolist())

    def leak(self, name: str) -> dict[str, Any]:
        """How far pictures of the class word, and of unrelated things, move when this concept is in the base."""
        concept, trained = self.library.concept(name), {name: self.trained(name)}
        prompts = leak_prompts([concept.class_word])
        found = leak(self.base, lambda: self.merges.applied(trained, Plan()), self.scorer, prompts)
        return {"backbone": self.scorer.backbone, **{kind: asdict(drift) for kind, drift in found.items()}}


def summary(scores: Scores) -> dict[str, Any]:
    """The mean alignments, with the backbone's name."""
    image = None if scores.image is None else sum(scores.image) / len(scores.image)
    return {
        "backbone": scores.backbone,
        "image_alignment": image,
        "text_alignment": sum(scores.text) / len(scores.text),
    }


def _space(adapter: str) -> Space:
    """The space of the ledger that a method's block lies in."""
    return "columns" if ADAPTERS[adapter].uses_columns else "rows"
