"""Trains a concept of the library, and stores its result, previews and scores there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from PIL import Image

from concepts import Columns, Concept, Lease, Library, LibraryError, Order, Result, read_picture
from concepts.columns.allocation import Space
from concepts.storage import remove
from studio.adapters import ADAPTERS
from studio.adapters.concept_file import TrainedConcept, to_bytes
from studio.adapters.singular_columns import OwnColumns
from studio.composition.merge import MergeCache
from studio.composition.merge_config import MergeConfig
from studio.metrics.clip import Scorer
from studio.models.base_model import Base, generate
from studio.models.token_embeddings import token_of
from training.config.caption_templates import STYLE_CAPTIONS, is_style
from training.config.recipe import Recipe
from training.config.recipe_resolution import adapter_config, kinds_of_recipe, resolve_recipe
from training.config.stored_recipe import total_steps
from training.data.augmentation import Example
from training.data.class_images import plain_prompt
from training.engine.distributed import ProcessGroup
from training.engine.trainer import Progress, Training, never_stop, train_concept
from training.engine.training_task import on_threads
from training.engine.validation import Preview
from training.jobs.tensorboard import TensorBoardLog
from training.reporting.image_grid import grid, png_bytes

PREVIEWS = 4


@dataclass(frozen=True)
class Trained:
    """What a training in the library gives: the stored result, the loss of every step, the preview pictures, and the
    concept as it can be merged and exported.
    """

    result: Result
    losses: list[float]
    previews: list[Image.Image]
    concept: TrainedConcept


@dataclass(frozen=True)
class Scores:
    """Per-picture alignments by one backbone; `image` is None without reference pictures."""

    backbone: str
    image: list[float] | None
    text: list[float]


def train_in_library(
    library: Library,
    base: Base,
    scorer: Callable[[], Scorer],
    concept: Concept,
    recipe: Recipe,
    first_column: int = 0,
    on_progress: Callable[[Progress], None] = lambda _: None,
    start: TrainedConcept | None = None,
    stop: Callable[[], bool] = never_stop,
    lease: Lease | None = None,
) -> Trained:
    """Trains a concept, generates previews, scores them and stores the result, which replaces an earlier one.

    With `start` that training is continued. A training that was stopped by `stop`, which raises TrainingStopped, or
    killed is resumed by the same call. With `lease` the result ends that job.
    """
    if ProcessGroup.from_env().is_main_process:
        scorer()  # before the training: one that cannot be loaded must not cost it
    training, process_group = _train(library, base, scorer, concept, recipe, first_column, on_progress, start, stop)
    if process_group.is_main_process:
        with on_threads(recipe.threads):
            trained = _store(library, base, scorer(), concept, recipe, training, start, lease)
        remove(library.checkpoints(concept))
        process_group.wait()
        return trained
    process_group.wait()
    stored = library.concept(concept.name).result
    assert stored, "the main process has stored it"
    return Trained(stored, training.losses, [], training.concept)


def _train(
    library: Library,
    base: Base,
    scorer: Callable[[], Scorer],
    concept: Concept,
    recipe: Recipe,
    first_column: int,
    on_progress: Callable[[Progress], None],
    start: TrainedConcept | None,
    stop: Callable[[], bool],
) -> tuple[Training, ProcessGroup]:
    """Trains with checkpoints, TensorBoard logs, and scored validation images if the recipe has them."""
    examples, tensorboard_log, process_group = (
        examples_of(concept),
        TensorBoardLog(library.runs(concept)),
        ProcessGroup.from_env(),
    )
    references = [example.picture for example in examples]

    def log_progress(progress: Progress) -> None:
        on_progress(progress)
        if process_group.is_main_process:
            tensorboard_log.progress(progress)

    def log_preview(preview: Preview) -> None:
        if process_group.is_main_process:
            tensorboard_log.preview(preview)

    def score(shown: Sequence[Image.Image]) -> float:
        return fmean(scorer().image_alignment(shown, references).tolist())

    cache, checkpoints = library.local / "priors", library.checkpoints(concept)
    try:
        training = train_concept(
            base, concept.name, concept.class_word, examples, recipe, first_column, cache, log_progress, start,
            checkpoints, stop=stop, on_preview=log_preview, score=score,
        )  # fmt: skip
    finally:
        tensorboard_log.close()
    return training, process_group


def _store(
    library: Library,
    base: Base,
    scorer: Scorer,
    concept: Concept,
    recipe: Recipe,
    training: Training,
    start: TrainedConcept | None,
    lease: Lease | None,
) -> Trained:
    """Generates and scores previews of the trained concept, and stores all of it."""
    trained, total = training.concept, len(training.losses) + (total_steps(start) if start else 0)
    trained.metadata["total_steps"] = total
    prompt = STYLE_CAPTIONS[0] if is_style(concept.class_word) else "a photo of {}"
    plain = plain_prompt(concept.class_word)
    with MergeCache(base, 1).applied({concept.name: trained}, MergeConfig()):
        previews = generate(base, prompt.format(token_of(concept.name)), range(PREVIEWS))
    scores = aligned(scorer, previews, plain, pictures_of(concept))
    trained.metadata["scores"] = summary(scores)
    details = {
        "base": trained.base,
        "adapter": trained.adapter,
        "rank": trained.config.get("rank", 0),
        "parameters": sum(t.numel() for state in trained.adapters.values() for t in state.values()),
        "scores": trained.metadata["scores"],
        "recipe": recipe.model_dump(),
        "total_steps": total,
        "snapshots": [{"step": kept.step, "image_alignment": kept.alignment} for kept in training.snapshots],
        **training.record.plain(),
    }
    result = library.store_result(
        concept.name, to_bytes(trained), details, png_bytes(grid(previews)), lease,
        [(kept.step, kept.data, kept.preview) for kept in training.snapshots],
    )  # fmt: skip
    return Trained(result, training.losses, previews, trained)


def order_of(base: Base, name: str, recipe: Recipe, column: int | None = None, **options: Any) -> Order:
    """The order to queue this training; `options` are those of Order. Raises StudioError for an invalid recipe."""
    recipe = resolve_recipe(base, recipe)
    wanted = columns_for(base, recipe, column)
    return Order(name, base.name, base.decomposition.fingerprint, recipe.model_dump(mode="json"), wanted, **options)


def columns_for(base: Base, recipe: Recipe, column: int | None = None) -> Columns | None:
    """The singular columns, or basis rows, to allocate for a training; None where it needs none.

    Every site is checked, and StudioError raised for a configuration that does not fit.
    """
    config = adapter_config(recipe)
    method = ADAPTERS[recipe.adapter]
    shapes = {site.name: tuple(site.weight.shape) for site in base.sites_of(kinds_of_recipe(recipe, config)).values()}
    for name, shape in shapes.items():
        method.check(shape, config, name)
    space = space_of(recipe.adapter, config)
    if space is None:
        return None
    capacity = min(base.decomposition.capacity, *map(min, shapes.values()))
    return Columns(config.rank, capacity, column, space)


def space_of(adapter: str, config: Any) -> Space | None:
    """The space in which a configuration's block is allocated; None where columns are not allocated: for a method
    without any, for indices that were given, and for sampled ones.
    """
    method = ADAPTERS[adapter]
    if not method.owns_block:
        return None
    if not isinstance(config, OwnColumns.Config):
        return "rows"
    spaces: dict[str, Space] = {"top": "columns", "bottom": "bottom_columns", "random_basis": "random_basis"}
    return spaces.get(config.columns) if config.indices is None else None


def refuse_without_pictures(concept: Concept) -> None:
    """Raises LibraryError for a concept without pictures."""
    if not concept.pictures:
        raise LibraryError(
            f'"{concept.name}" was imported and has no pictures to train on. Add a concept with pictures under '
            "another name."
        )


def pictures_of(concept: Concept) -> list[Image.Image]:
    """A concept's own pictures."""
    return [read_picture(path, str(path)) for path in concept.pictures]


def examples_of(concept: Concept) -> list[Example]:
    """A concept's own pictures, with their captions, masks and repeats."""
    masks = [None if mask is None else read_picture(mask, str(mask)).convert("L") for mask in concept.masks]
    described = zip(pictures_of(concept), concept.captions, masks, concept.repeats, strict=True)
    return [Example(*parts) for parts in described]


def aligned(
    scorer: Scorer, pictures: Sequence[Image.Image], prompt: str, references: Sequence[Image.Image] = ()
) -> Scores:
    """The alignment of pictures with a prompt and, when given, with references."""
    image = scorer.image_alignment(pictures, references).tolist() if references else None
    return Scores(scorer.backbone, image, scorer.text_alignment(pictures, prompt).tolist())


def summary(scores: Scores) -> dict[str, Any]:
    """The mean alignments, with the backbone's name."""
    image = None if scores.image is None else sum(scores.image) / len(scores.image)
    return {
        "backbone": scores.backbone,
        "image_alignment": image,
        "text_alignment": sum(scores.text) / len(scores.text),
    }
