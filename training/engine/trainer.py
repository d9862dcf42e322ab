"""Trains one concept on a base."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from concepts.storage import StoragePath, atomic_write
from studio.adapters.concept_file import TrainedConcept, config_of, to_bytes
from studio.models.base_model import Base
from training.config.recipe import Recipe
from training.config.recipe_resolution import new_config, parameter_groups, resolve_recipe
from training.data.augmentation import Example
from training.data.captions import check_lengths
from training.data.class_images import prior_steps
from training.data.dataset import TrainingSet, build_training_set, prior_prompts
from training.engine.checkpoints import Checkpoints
from training.engine.distributed import ProcessGroup
from training.engine.optimizers import check_optimizer
from training.engine.precision import cast_to
from training.engine.prompt_cache import on_device
from training.engine.run_metrics import RunMetrics, run_metrics_of
from training.engine.step_losses import LossComputer
from training.engine.train_state import DivergenceError, TrainState
from training.engine.training_task import Task, on_threads
from training.engine.validation import Preview, ScoreImages, Snapshot, Snapshots, snapshot_of, validate

LAST_GOOD = "last-good.safetensors"
"""The file, beside the checkpoints, of the last good concept of a diverged training."""


@dataclass(frozen=True)
class Progress:
    """Progress of a training: the completed step, the total, its loss (None while class images are generated), and
    each part's learning rate.
    """

    step: int
    steps: int
    loss: float | None
    rates: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """The result of a training: the concept, the metrics of the run, and snapshots of the concept on the way."""

    concept: TrainedConcept
    record: RunMetrics
    snapshots: tuple[Snapshot, ...] = ()

    @property
    def losses(self) -> list[float]:
        """The loss of every step."""
        return self.record.losses


class TrainingStopped(Exception):  # noqa: N818 (a requested stop is no error)
    """A training was stopped by its `stop`, after `step` of `steps`; with checkpoints it can be resumed."""

    def __init__(self, step: int, steps: int):
        super().__init__(f"stopped after step {step} of {steps}")
        self.step, self.steps = step, steps


@dataclass(frozen=True)
class Callbacks:
    """Callbacks of a training: progress, validation images, whether to stop, and the score of validation images."""

    on_progress: Callable[[Progress], None] = lambda _: None
    on_preview: Callable[[Preview], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False
    score: ScoreImages | None = None


def never_stop() -> bool:
    """The default of `stop`: never stops a training."""
    return False


def train_concept(
    base: Base,
    name: str,
    class_word: str,
    pictures: Sequence[Image.Image | Example],
    recipe: Recipe,
    first_column: int = 0,
    cache: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    start: TrainedConcept | None = None,
    checkpoints: StoragePath | None = None,
    every: int = 50,
    stop: Callable[[], bool] = never_stop,
    on_preview: Callable[[Preview], None] = lambda _: None,
    score: ScoreImages | None = None,
) -> Training:
    """Trains adapters and a token on the pictures, and restores the base.

    `cache` is a folder for class images. `start` is the result of an earlier training of this concept, to continue.
    `checkpoints` is a folder in which the state is saved every `every` steps and at the end: the same call resumes from
    there, with the same result, bit for bit, as an uninterrupted one. The caller removes the folder when the result is
    stored. `stop` is called before every step, and while class images are generated. `score` returns the image
    alignment of validation images, for early stopping and `keep_best`.

    Raises StudioError for options that do not fit, and DivergenceError when the loss is not finite: then LAST_GOOD,
    beside the checkpoints, is the concept of the newest of them. Raises TrainingStopped, with the state saved, when
    `stop` returns true.
    """
    recipe = resolve_recipe(base, recipe)
    config = new_config(base, name, recipe, first_column) if start is None else config_of(start)
    examples = [picture if isinstance(picture, Example) else Example(picture) for picture in pictures]
    check_optimizer(recipe, base.device)
    check_lengths(base, examples, recipe)
    cast_to(recipe.mixed_precision, base)  # checked before anything is generated
    task = Task(base, name, class_word, examples, recipe, config, start)
    callbacks, process_group = Callbacks(on_progress, on_preview, stop, score), ProcessGroup.from_env()
    adapters = task.adapters()
    kept = None if checkpoints is None else Checkpoints(checkpoints / task.key)
    found = None if kept is None else process_group.main_process_first(kept.newest)
    with on_threads(recipe.threads or (None if found is None else found["threads"])) as threads:
        data = process_group.main_process_first(lambda: _prepared(task, cache, callbacks))
        with task.ready(adapters):
            groups = parameter_groups(base, task.sites, adapters, recipe, task.vectors)
            train_state = TrainState(adapters, task.vectors, groups, recipe, threads, process_group)
            if found is not None:
                train_state.resume(found)
            try:
                saved_to = kept if process_group.is_main_process else None
                snapshots = Snapshots(None if kept is None else kept.folder)
                _train_loop(task, data, train_state, saved_to, every, callbacks, process_group, snapshots)
            except DivergenceError as diverged:
                raise _with_last_good(diverged, task, train_state, kept) from diverged
            train_state.finish()
            return Training(task.concept(adapters), run_metrics_of(train_state, task.sites), tuple(snapshots.all()))


def _prepared(task: Task, cache: Path | None, callbacks: Callbacks) -> TrainingSet:
    """The training set; reports the progress of generating class images."""
    recipe, base = task.recipe, task.base
    generating = prior_steps(base.family, *map(len, prior_prompts(recipe, task.class_word)))
    done = iter(range(1, generating + 1))

    def generated() -> None:
        if callbacks.stop():
            raise TrainingStopped(0, recipe.steps)
        callbacks.on_progress(Progress(next(done), generating, None))

    with on_device(base, base.pipeline.vae, recipe.low_memory):
        return build_training_set(base, task.examples, task.class_word, recipe, cache, generated)


def _train_loop(
    task: Task,
    data: TrainingSet,
    train_state: TrainState,
    kept: Checkpoints | None,
    every: int,
    callbacks: Callbacks,
    process_group: ProcessGroup,
    snapshots: Snapshots,
) -> None:
    """Runs the remaining steps, and saves checkpoints and snapshots."""
    recipe, saved = task.recipe, train_state.step

    def save() -> None:
        nonlocal saved
        if kept and train_state.step != saved:
            kept.save(train_state.step, train_state.state())
            saved = train_state.step

    loss_computer = LossComputer(task, data, train_state, process_group)
    while not train_state.ended:
        if process_group.any(callbacks.stop()):
            save()
            raise TrainingStopped(train_state.step, recipe.steps)
        train_state.optimizer_step(loss_computer.losses())
        _validate(task, train_state, callbacks, loss_computer, snapshots, process_group)
        if train_state.step % every == 0 or train_state.ended:
            save()
        rates = {part: rates[-1] for part, rates in train_state.rates.items()}
        callbacks.on_progress(Progress(train_state.step, recipe.steps, train_state.losses[-1], rates))


def _validate(
    task: Task,
    train_state: TrainState,
    callbacks: Callbacks,
    loss_computer: LossComputer,
    snapshots: Snapshots,
    process_group: ProcessGroup,
) -> None:
    """Generates validation images after the steps that have them, measures the loss on validation pictures, and keeps
    snapshots.
    """
    recipe, step = task.recipe, train_state.step
    shown = bool(recipe.validation_steps) and (step % (recipe.validation_steps or 1) == 0 or step == recipe.steps)
    kept = bool(recipe.save_every_n_steps) and step % (recipe.save_every_n_steps or 1) == 0 and not train_state.ended
    if not (shown or kept):
        return
    with train_state.result():
        loss = loss_computer.validation_loss()
    if loss is not None:
        train_state.validation_losses.append((step, loss))
    preview = validate(task, train_state, callbacks.score, loss_computer.prompt_cache.offloads)
    if shown:
        if preview.alignment is not None:
            train_state.record_score(preview.alignment)
        callbacks.on_preview(preview)
    if kept and process_group.is_main_process:
        snapshots.add(snapshot_of(task, train_state, preview))


def _with_last_good(
    diverged: DivergenceError, task: Task, train_state: TrainState, kept: Checkpoints | None
) -> DivergenceError:
    """The error, with the path of the last good concept, from the newest checkpoint."""
    found = kept and kept.newest()
    if not (kept and found):
        return diverged
    train_state.resume(found)
    file = kept.folder / LAST_GOOD
    atomic_write(file, to_bytes(task.concept(train_state.adapters)))
    return DivergenceError(
        f"{diverged} The concept after step {train_state.step} is saved. Continue from it with --continue-from {file}."
    )
