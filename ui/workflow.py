"""The verbs of the studio, each short: add pictures, train, merge, generate, score."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from torch import get_num_threads

from concepts import ColumnBlock, Concept, Job, LibraryError, Result, atomic_write
from studio.adapters import ADAPTERS
from studio.checkpoint import TrainedConcept, from_bytes, to_bytes
from studio.composition import sharing_notes
from studio.composition.serving import Request, Serving
from studio.composition.session import MergeCache, Plan, merged_concept
from studio.diffusion import Base, PaintSettings, load_base, paint
from studio.errors import StudioError
from studio.leak import leak, leak_prompts
from studio.regions import Region
from studio.scoring import Scorer, load_scorer
from training.in_library import PREVIEWS as PREVIEWS
from training.in_library import (
    Scores,
    Trained,
    aligned,
    columns_for,
    order_of,
    pictures_of,
    refuse_without_pictures,
    space_of,
    train_in_library,
)
from training.in_library import summary as summary
from training.loop import Progress, Stopped, never
from training.methods import within_budget
from training.recipe import Recipe
from training.task import token_of
from ui.options import library_at

UNMERGED = "unmerged"
"""In place of a merge method: concepts act on their own as a picture is painted, one with a region inside it alone."""
_KEPT = 16
_NAMED = re.compile(r"<([A-Za-z][\w-]*)>")


class Workflow:
    """One library and one base, loaded when first needed."""

    def __init__(self, root: Path | str, base: str = "toybox", backbone: str = "toybox-clip"):
        self._base, self._backbone = base, backbone
        self.library = library_at(root)
        self._read: dict[Path, TrainedConcept] = {}

    @cached_property
    def base(self) -> Base:
        """The base model; its singular columns are kept in the library."""
        return load_base(self._base, self.library.root / "columns")

    @cached_property
    def merges(self) -> MergeCache:
        """The models that were merged last."""
        return MergeCache(self.base)

    @cached_property
    def scorer(self) -> Scorer:
        """The model that scores."""
        return load_scorer(self._backbone)

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
        stop: Callable[[], bool] = never,
    ) -> Trained:
        """Trains a concept, paints previews, scores them and stores the result, which replaces an earlier one.

        With `start`, what `trained` gave, the training goes on from there. `column` asks the ledger for the columns
        from there, in place of the lowest free ones. A training that was stopped by `stop`, which raises Stopped, or
        killed goes on where it was when it is asked for in the same way again.
        """
        concept = self.library.concept(name)
        refuse_without_pictures(concept)
        self.library.jobs.refuse_waiting(name)
        recipe = within_budget(self.base, recipe)
        with self._columns(concept, recipe, start, column) as first:
            try:
                return train_in_library(
                    self.library, self.base, lambda: self.scorer, concept, recipe, first, on_progress, start, stop
                )
            except Stopped as caught:  # in here, so that the concept keeps its columns until it goes on
                stopped = caught
        raise stopped

    @contextmanager
    def _columns(
        self, concept: Concept, recipe: Recipe, start: TrainedConcept | None, column: int | None
    ) -> Iterator[int]:
        """The first of the concept's columns, which it keeps if the training ends well; 0 where it needs none."""
        wanted = None if start else columns_for(self.base, recipe, column)
        if wanted is None:
            yield 0
            return
        with self.library.columns_for_result(
            concept.name, self.base.decomposition.fingerprint, wanted.width, wanted.capacity, column, wanted.space
        ) as block:
            yield block.start

    def queue(self, names: Sequence[str], recipe: Recipe, column: int | None = None, priority: int = 0) -> list[Job]:
        """Queues trainings for a worker, all or none; their columns are allocated now, in this order."""
        for name in names:
            refuse_without_pictures(self.library.concept(name))
        threads = recipe.threads or get_num_threads()  # what it becomes must not depend on who trains it
        recipe = recipe.model_copy(update={"threads": threads})
        return self.library.jobs.queue([order_of(self.base, name, recipe, column, priority=priority) for name in names])

    def claim(self, name: str, trained: TrainedConcept) -> ColumnBlock | None:
        """Enters the columns of a concept that was trained elsewhere in the ledger; the block tells what overlaps.

        None where its method has no columns of its own.
        """
        if not ADAPTERS[trained.adapter].owns_block:
            return None
        base, width, first = self.base.decomposition, trained.config["rank"], trained.config["first_column"]
        space = space_of(trained.adapter)
        return self.library.allocate_columns(name, base.fingerprint, width, base.capacity, first, space)

    def trained(self, name: str) -> TrainedConcept:
        """A concept as training left it: by its name, or from a file that `merge` wrote."""
        if name.endswith(".safetensors"):
            return _read_file(Path(name))
        result = self._result(name)
        if result.path not in self._read:  # a result's file never changes: another result is another file
            read = from_bytes(result.path.read_bytes(), f'The file of "{name}"')
            self._read = dict([*self._read.items(), (result.path, read)][-_KEPT:])
        return self._read[result.path]

    def _result(self, name: str) -> Result:
        result = self.library.concept(name).result
        if result is None:
            raise LibraryError(f'"{name}" is not trained yet: run studio train {name} first.')
        return result

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

    def named_in(self, prompt: str) -> list[str]:
        """The concepts that a prompt names, <NAME>, each once; an unknown one is a LibraryError."""
        return list(dict.fromkeys(self.library.concept(name).name for name in _NAMED.findall(prompt)))

    def generate(
        self,
        prompt: str,
        concepts: Sequence[str] = (),
        method: str | None = None,
        strengths: Mapping[str, float] | None = None,
        seeds: Sequence[int] = range(4),
        regions: Mapping[str, tuple[float, float, float, float]] | None = None,
        settings: PaintSettings | None = None,
        on_step: Callable[[], None] = lambda: None,
        averaged: bool = False,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> list[Image.Image]:
        """Paints one picture a seed, with the concepts that the prompt names and those given beside it.

        `regions` gives a concept a box (top, left, bottom, right), inside which the prompt is read without the other
        concepts; numbers up to 1 are shares of the picture's side, and if one is greater all four are pixels. `method`
        is one of studio.composition.MERGES or UNMERGED, and `averaged` divides the strengths by the number of concepts.
        `on_note` is told what a person should know about the merge, such as columns that two concepts share.
        """
        trained = self._resolve(prompt, concepts, regions or {})
        boxes = {name: Region(alone(prompt, name), *self._share(box)) for name, box in (regions or {}).items()}
        plan = Plan(method, known_strengths(strengths, trained), averaged)
        if method == UNMERGED:
            return self._paint_unmerged(trained, prompt, seeds, plan, boxes, settings, on_step)
        for note in sharing_notes(trained):
            on_note(note)
        return self._paint(trained, prompt, seeds, plan, [*boxes.values()], settings, on_step)

    def _resolve(
        self, prompt: str, concepts: Sequence[str], regions: Mapping[str, object]
    ) -> dict[str, TrainedConcept]:
        """Every concept that takes part, as it was trained: files by their path, others by their name."""
        files = {name: self.trained(name) for name in concepts if name.endswith(".safetensors")}
        held = {token.lower() for concept in files.values() for token in concept.tokens}
        asked = [*_NAMED.findall(prompt), *(name for name in concepts if name not in files), *regions]
        names = dict.fromkeys(self.library.concept(name).name for name in asked if token_of(name).lower() not in held)
        return {**files, **{name: self.trained(name) for name in names}}

    def _share(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        side = self.base.side if max(box) > 1 else 1
        top, left, bottom, right = box
        return top / side, left / side, bottom / side, right / side

    def _paint(
        self,
        trained: Mapping[str, TrainedConcept],
        prompt: str,
        seeds: Sequence[int],
        plan: Plan | None = None,
        regions: Sequence[Region] = (),
        settings: PaintSettings | None = None,
        on_step: Callable[[], None] = lambda: None,
    ) -> list[Image.Image]:
        with self.merges.applied(trained, plan or Plan()):
            return paint(self.base, prompt, seeds, settings, regions, on_step)

    def _paint_unmerged(
        self,
        trained: Mapping[str, TrainedConcept],
        prompt: str,
        seeds: Sequence[int],
        plan: Plan,
        boxes: Mapping[str, Region],
        settings: PaintSettings | None,
        on_step: Callable[[], None],
    ) -> list[Image.Image]:
        owners = {token.lower(): name for name, concept in trained.items() for token in concept.tokens}
        regions = {owners[token_of(name).lower()]: region for name, region in boxes.items()}
        if len(regions) < len(boxes):
            raise StudioError("Name the concepts of a merged file one by one: each needs a region of its own.")
        strengths = plan.strengths_for(trained) if trained else {}
        with Serving(self.base, trained) as serving:
            return serving.paint([Request(prompt, seed, strengths, regions) for seed in seeds], settings, on_step)

    def score(self, pictures: Sequence[Image.Image], prompt: str, references: Sequence[Image.Image] = ()) -> Scores:
        """How near pictures are to a prompt and, when given, to references."""
        return aligned(self.scorer, pictures, prompt, references)

    def leak(self, name: str) -> dict[str, Any]:
        """How far pictures of the class word, and of unrelated things, move when this concept is in the base."""
        concept, trained = self.library.concept(name), {name: self.trained(name)}
        prompts = leak_prompts([concept.class_word])
        found = leak(self.base, lambda: self.merges.applied(trained, Plan()), self.scorer, prompts)
        return {"backbone": self.scorer.backbone, **{kind: asdict(drift) for kind, drift in found.items()}}

    def plain(self, prompt: str) -> str:
        """The prompt with every concept's class word in its place, as the scorer can read it."""
        return _NAMED.sub(lambda match: f"a {self.library.concept(match[1]).class_word}", prompt)


def alone(prompt: str, name: str) -> str:
    """The prompt for one of its concepts: what stands before the first name, this one, what follows the last.

    "a photo of <milo> and <rex> on the beach" is "a photo of <rex> on the beach" for rex.
    """
    found = list(_NAMED.finditer(prompt))
    if not found:
        return token_of(name)
    return prompt[: found[0].start()] + token_of(name) + prompt[found[-1].end() :]


def known_strengths(strengths: Mapping[str, float] | None, trained: Mapping[str, TrainedConcept]) -> dict[str, float]:
    """Strengths by the concepts' own names; StudioError for one that is not painted."""
    keys = {name.lower(): name for name in trained}
    for name in strengths or {}:
        if name.lower() not in keys:
            raise StudioError(f"Name {name} in the prompt or leave its strength out: it is not in the picture.")
    return {keys[name.lower()]: value for name, value in (strengths or {}).items()}


def _read_file(path: Path) -> TrainedConcept:
    try:
        return from_bytes(path.read_bytes(), str(path))
    except OSError as error:
        raise StudioError(f"Give a file that studio merge wrote: {path} cannot be read.") from error
