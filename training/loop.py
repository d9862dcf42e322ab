"""Teaches a base one concept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import DDPMScheduler
from PIL import Image
from torch import Tensor

from concepts.storage import atomic_write
from studio.checkpoint import TrainedConcept, config_of, to_bytes
from studio.diffusion import Base
from training.batches import Batch, draw_batch
from training.checkpoints import Checkpoints
from training.dataset import TrainingSet, build_training_set, prior_steps
from training.learner import Diverged, Learner
from training.losses import denoising_loss
from training.methods import adapter_config, parameter_groups
from training.recipe import Recipe
from training.task import Task, on_threads

LAST_GOOD = "last-good.safetensors"
"""The concept, beside the checkpoints, of a training whose loss became no number."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands: the step just done, of how many, and its loss (None while preparing)."""

    step: int
    steps: int
    loss: float | None


@dataclass(frozen=True)
class Training:
    """What a training gave: the concept, and the loss of every step."""

    concept: TrainedConcept
    losses: list[float]


class Stopped(Exception):  # noqa: N818 (it ends as it was asked to, which is no error)
    """A training was stopped by its `stop`, after `step` of `steps`; with checkpoints it can go on from there."""

    def __init__(self, step: int, steps: int):
        super().__init__(f"stopped after step {step} of {steps}")
        self.step, self.steps = step, steps


def never() -> bool:
    """Lets a training run to its end."""
    return False


def train_concept(
    base: Base,
    name: str,
    class_word: str,
    pictures: Sequence[Image.Image],
    recipe: Recipe,
    first_column: int = 0,
    cache: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    start: TrainedConcept | None = None,
    checkpoints: Path | None = None,
    every: int = 50,
    stop: Callable[[], bool] = never,
) -> Training:
    """Trains adapters and a token on the pictures and gives the base back as it was.

    `cache` keeps prior pictures between trainings. `start` is what an earlier training of this concept gave, to go on
    from. `checkpoints` is a folder in which the state is kept, after every `every` steps and at the end: the same call
    goes on from there, and ends in the same bytes as one that was never interrupted. The caller removes the folder when
    the result is safe. `stop` is asked before every step, and while prior pictures are painted.

    Raises StudioError for options that do not fit, and when the loss is no longer a number: then LAST_GOOD, beside the
    checkpoints, is what was learned until the newest of them. Raises Stopped, with the state kept, when `stop` says so.
    """
    config = adapter_config(recipe, first_column) if start is None else config_of(start)
    task = Task(base, name, class_word, pictures, recipe, config, start)
    adapters = task.adapters()
    kept = None if checkpoints is None else Checkpoints(checkpoints / task.key)
    found = None if kept is None else kept.newest()
    with on_threads(recipe.threads or (None if found is None else found["threads"])) as threads:
        data = _prepared(task, cache, on_progress, stop)
        with task.ready(adapters):
            groups = parameter_groups(base, task.sites, adapters, recipe, task.vectors)
            learner = Learner(adapters, task.vectors, groups, recipe, threads)
            if found:
                learner.resume(found)
            try:
                for loss in _learn(task, data, learner, kept, every, stop):
                    on_progress(Progress(learner.step, recipe.steps, loss))
            except Diverged as diverged:
                raise _with_last_good(diverged, task, learner, kept) from diverged
            return Training(task.concept(adapters), learner.losses)


def _prepared(
    task: Task, cache: Path | None, on_progress: Callable[[Progress], None], stop: Callable[[], bool]
) -> TrainingSet:
    """What the concept is learned from; the progress of painting prior pictures is told."""
    recipe = task.recipe
    painting = prior_steps(recipe.prior_pictures)
    done = iter(range(1, painting + 1))

    def painted() -> None:
        if stop():
            raise Stopped(0, recipe.steps)
        on_progress(Progress(next(done), painting, None))

    return build_training_set(
        task.base, task.pictures, task.class_word, recipe.prior_pictures, recipe.flip, cache, painted
    )


def _learn(
    task: Task,
    data: TrainingSet,
    learner: Learner,
    kept: Checkpoints | None,
    every: int,
    stop: Callable[[], bool],
) -> Iterator[float]:
    """Takes the steps that are left, and gives the loss of each; the state is kept on the way."""
    steps, saved = task.recipe.steps, learner.step

    def save() -> None:
        nonlocal saved
        if kept and learner.step != saved:
            kept.save(learner.step, learner.state())
            saved = learner.step

    scheduler: Any = DDPMScheduler.from_config(task.base.pipeline.scheduler.config)
    while learner.step < steps:
        if stop():
            save()
            raise Stopped(learner.step, steps)
        batch = draw_batch(data, task.token, task.recipe, learner.step, len(scheduler))
        learner.descend(_loss(task.base, scheduler, batch))
        if learner.step % every == 0 or learner.step == steps:
            save()
        yield learner.losses[-1]


def _loss(base: Base, scheduler: Any, batch: Batch) -> Tensor:
    """The mean loss of a batch."""
    with base.autocast():
        prompts = base.encode(batch.prompts)

        def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
            return base.predict(noisy, timesteps, prompts)

        return denoising_loss(scheduler, predict, batch.latents, batch.noise, batch.timesteps).mean()


def _with_last_good(diverged: Diverged, task: Task, learner: Learner, kept: Checkpoints | None) -> Diverged:
    """The error, which also says where that is what was learned until the newest checkpoint."""
    found = kept and kept.newest()
    if not (kept and found):
        return diverged
    learner.resume(found)
    file = kept.folder / LAST_GOOD
    atomic_write(file, to_bytes(task.concept(learner.adapters)))
    return Diverged(
        f"{diverged} What was learned until step {learner.step} is kept: add --continue-from {file} to go on from it."
    )
