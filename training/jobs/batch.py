"""Batches: queues every training of a manifest once, and collects the outcomes as rows of a table."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from concepts import Concept, Job, Library, LibraryError, Order, read_picture
from concepts.images.import_files import read_caption, read_mask
from concepts.images.picture_files import picture_files
from concepts.storage import StoragePath, read_file
from studio.models.base_model import Base
from training.config.recipe_resolution import resolve_recipe
from training.config.stored_recipe import stored_recipe
from training.jobs.library_training import order_of
from training.jobs.manifest import Manifest, Run


@dataclass(frozen=True)
class Outcome:
    """The outcome of one training: the concept in its current state, and its newest job, if it has one."""

    run: Run
    concept: Concept
    job: Job | None

    @property
    def state(self) -> str:
        """The job's state; "done" for a concept that already has this result."""
        return self.job.state if self.job else "done"


def submit(
    library: Library,
    base: Base,
    manifest: Manifest,
    runs: Sequence[Run],
    label: str,
    on_added: Callable[[Run], None] = lambda _: None,
) -> list[Job]:
    """Adds missing concepts, and queues in this order all that are neither trained nor queued.
    Runs of the same pictures are variants of the first of them.

    It is idempotent. Raises LibraryError when the library has other pictures, or another class word, under one of the
    names.
    """
    names = [run.name for run in runs]
    present = {concept.name.lower(): concept for concept in library.find_concepts(names, details=True)}
    jobs = library.jobs.newest(names)
    orders: list[Order] = []
    sources: dict[tuple[Path, str], str] = {}
    for run in runs:
        concept = present.get(run.name.lower())
        source = sources.get((run.pictures, run.class_word))
        if concept is not None:
            _check_same(run, concept)
        elif source is not None:
            concept = library.variants.add(source, run.name)
        else:
            concept = library.add_concept(run.name, run.class_word, [run.pictures])
        sources.setdefault((run.pictures, run.class_word), run.name)
        on_added(run)
        job = jobs.get(concept.id)
        if not (job and job.unfinished) and not _has_result(concept, base, run):
            options = {"priority": manifest.priority, "max_attempts": manifest.max_attempts}
            orders.append(order_of(base, run.name, run.recipe, **options))
    return library.jobs.queue(orders, batch=label)


def outcomes(library: Library, runs: Sequence[Run], details: bool = False) -> list[Outcome]:
    """The outcome of each training; with `details`, its result has them, as a report needs."""
    names = [run.name for run in runs]
    concepts = {concept.name.lower(): concept for concept in library.find_concepts(names, details)}
    jobs = library.jobs.newest(names)
    found = ((run, concepts.get(run.name.lower())) for run in runs)
    return [Outcome(run, concept, jobs.get(concept.id)) for run, concept in found if concept]


def rows_of(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The table of results: one row per training, all with the same columns."""
    return [_row(outcome) for outcome in found]


def _row(outcome: Outcome) -> dict[str, Any]:
    run, job, result = outcome.run, outcome.job, outcome.concept.result
    done = result if outcome.state == "done" else None
    scores = done.scores if done else {}
    steps = done.details.get("recipe", {}).get("steps") if done else job.steps if job else None
    took = (job.ended - job.started).total_seconds() if job and job.started and job.ended else None
    return {
        "concept": run.name, "class": run.class_word, "adapter": run.recipe.adapter,
        "rank": done.rank if done else run.recipe.rank, "seed": run.recipe.seed, "steps": steps or run.recipe.steps,
        "state": outcome.state, "attempts": job.attempts if job else None,
        "parameters": done.parameters if done else None,
        "image_alignment": scores.get("image_alignment"), "text_alignment": scores.get("text_alignment"),
        "backbone": scores.get("backbone"), "loss": job.loss if job else None, "seconds": took,
        "file": str(done.path) if done else None,
        "sha256": hashlib.sha256(read_file(done.path)).hexdigest() if done else None,
        "error": job.error if job else None,
    }  # fmt: skip


def _check_same(run: Run, concept: Concept) -> None:
    """Raises LibraryError if the concept of this name differs from the manifest's."""
    files = picture_files([run.pictures])
    same = concept.class_word == run.class_word and concept.captions == tuple(map(read_caption, files))
    stored = zip(concept.pictures, concept.masks, files, strict=True)  # as many as there are captions
    if not same or not all(_is_stored(*each) for each in stored):
        raise LibraryError(
            f'The library has a concept "{run.name}" with other pictures, captions or masks, or another class '
            "word. Choose another name in the manifest, or another --library."
        )


def _is_stored(picture: StoragePath, mask: StoragePath | None, file: Path) -> bool:
    """Whether these are the picture in a file and its mask."""
    given = read_mask(file)
    if (mask is None) != (given is None) or _pixels(_read(picture)) != _pixels(_read(file)):
        return False
    return mask is None or given is None or _pixels(_read(mask).convert("L")) == _pixels(given)


def _read(path: StoragePath) -> Image.Image:
    return read_picture(path, str(path))


def _pixels(picture: Image.Image) -> tuple[tuple[int, int], bytes]:
    return picture.size, picture.tobytes()


def _has_result(concept: Concept, base: Base, run: Run) -> bool:
    """Whether the concept has the result that this training would give."""
    result = concept.result
    if result is None or result.base != base.decomposition.fingerprint:
        return False
    known = result.details.get("recipe")
    return known is not None and stored_recipe(known) == resolve_recipe(base, run.recipe)
