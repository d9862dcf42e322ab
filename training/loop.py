"""Teaches a base one concept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from concepts.storage import Place, atomic_write
from studio.checkpoint import TrainedConcept, config_of, to_bytes
from studio.diffusion import Base, paint
from studio.paint_settings import PaintSettings
from training.checkpoints import Checkpoints
from training.cuts import Example, check_examples
from training.dataset import TrainingSet, build_training_set, prior_steps
from training.learner import Diverged, Learner
from training.methods import adapter_config, parameter_groups, settled
from training.optimizers import check_optimizer
from training.precision import cast_to
from training.reading import encoders_on_card, on_card
from training.recipe import Recipe
from training.record import Record, record_of
from training.stepping import Stepper
from training.task import Task, on_threads
from training.team import Team

PREVIEW_SETTINGS = PaintSettings()
LAST_GOOD = "last-good.safetensors"
"""The concept, beside the checkpoints, of a training whose loss became no number."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands: the step just done, of how many, its loss (None while preparing), and each part's
    learning rate in it.
    """

    step: int
    steps: int
    loss: float | None
    rates: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Preview:
    """Pictures of the concept as it was after a step, and their image alignment if they were scored."""

    step: int
    pictures: list[Image.Image]
    alignment: float | None


@dataclass(frozen=True)
class Training:
    """What a training gave: the concept, and how it went."""

    concept: TrainedConcept
    record: Record

    @property
    def losses(self) -> list[float]:
        """The loss of every step."""
        return self.record.losses


class Stopped(Exception):  # noqa: N818 (it ends as it was asked to, which is no error)
    """A training was stopped by its `stop`, after `step` of `steps`; with checkpoints it can go on from there."""

    def __init__(self, step: int, steps: int):
        super().__init__(f"stopped after step {step} of {steps}")
        self.step, self.steps = step, steps


@dataclass(frozen=True)
class Watch:
    """Whom a training tells what it does, whom it asks whether to stop, and who scores its previews."""

    on_progress: Callable[[Progress], None] = lambda _: None
    on_preview: Callable[[Preview], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False
    score: Callable[[Sequence[Image.Image]], float] | None = None


def never() -> bool:
    """Lets a training run to its end."""
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
    checkpoints: Place | None = None,
    every: int = 50,
    stop: Callable[[], bool] = never,
    on_preview: Callable[[Preview], None] = lambda _: None,
    score: Callable[[Sequence[Image.Image]], float] | None = None,
) -> Training:
    """Trains adapters and a token on the pictures and gives the base back as it was.

    `cache` keeps prior pictures between trainings. `start` is what an earlier training of this concept gave, to go on
    from. `checkpoints` is a folder in which the state is kept, after every `every` steps and at the end: the same call
    goes on from there, and ends in the same bytes as one that was never interrupted. The caller removes the folder when
    the result is safe. `stop` is asked before every step, and while prior pictures are painted. `score` gives the image
    alignment of previews, by which the recipe may end the training or choose its result.

    Raises StudioError for options that do not fit, and when the loss is no longer a number: then LAST_GOOD, beside the
    checkpoints, is what was learned until the newest of them. Raises Stopped, with the state kept, when `stop` says so.
    """
    recipe = settled(base, recipe)
    config = adapter_config(recipe, first_column) if start is None else config_of(start)
    examples = [picture if isinstance(picture, Example) else Example(picture) for picture in pictures]
    check_examples(examples, recipe)
    check_optimizer(recipe, base.device)
    cast_to(recipe.precision, base)  # what this machine cannot do is refused before anything is painted
    task = Task(base, name, class_word, examples, recipe, config, start)
    watch, team = Watch(on_progress, on_preview, stop, score), Team.gathered()
    adapters = task.adapters()
    kept = None if checkpoints is None else Checkpoints(checkpoints / task.key)
    found = None if kept is None else team.first(kept.newest)
    with on_threads(recipe.threads or (None if found is None else found["threads"])) as threads:
        data = team.first(lambda: _prepared(task, cache, watch))
        with task.ready(adapters):
            groups = parameter_groups(base, task.sites, adapters, recipe, task.vectors)
            learner = Learner(adapters, task.vectors, groups, recipe, threads, team)
            if found is not None:
                learner.resume(found)
            try:
                _learn(task, data, learner, kept if team.leads else None, every, watch, team)
            except Diverged as diverged:
                raise _with_last_good(diverged, task, learner, kept) from diverged
            learner.finish()
            return Training(task.concept(adapters), record_of(learner, task.sites))


def _prepared(task: Task, cache: Path | None, watch: Watch) -> TrainingSet:
    """What the concept is learned from; the progress of painting prior pictures is told."""
    recipe, base = task.recipe, task.base
    painting = prior_steps(recipe.prior_pictures)
    done = iter(range(1, painting + 1))

    def painted() -> None:
        if watch.stop():
            raise Stopped(0, recipe.steps)
        watch.on_progress(Progress(next(done), painting, None))

    with on_card(base, base.pipeline.vae, recipe.low_memory):
        return build_training_set(base, task.examples, task.class_word, recipe, cache, painted)


def _learn(
    task: Task, data: TrainingSet, learner: Learner, kept: Checkpoints | None, every: int, watch: Watch, team: Team
) -> None:
    """Takes the steps that are left; the state is kept on the way."""
    recipe, saved = task.recipe, learner.step

    def save() -> None:
        nonlocal saved
        if kept and learner.step != saved:
            kept.save(learner.step, learner.state())
            saved = learner.step

    stepper = Stepper(task, data, learner, team)
    while not learner.ended:
        if team.agree(watch.stop()):
            save()
            raise Stopped(learner.step, recipe.steps)
        learner.descend(stepper.losses())
        if recipe.preview_every and (learner.step % recipe.preview_every == 0 or learner.step == recipe.steps):
            watch.on_preview(_preview(task, learner, watch, stepper.reader.rests))
        if learner.step % every == 0 or learner.ended:
            save()
        rates = {part: rates[-1] for part, rates in learner.rates.items()}
        watch.on_progress(Progress(learner.step, recipe.steps, learner.losses[-1], rates))


def _preview(task: Task, learner: Learner, watch: Watch, text_rests: bool) -> Preview:
    """Paints what the training would give now, and has it scored."""
    recipe, base = task.recipe, task.base
    with (
        learner.result(),
        on_card(base, base.pipeline.vae, recipe.low_memory),
        encoders_on_card(base, text_rests),
    ):
        pictures = paint(
            base, recipe.preview_prompt.replace("{}", task.token), range(recipe.previews), PREVIEW_SETTINGS
        )
    alignment = None if watch.score is None else watch.score(pictures)
    if alignment is not None:
        learner.judge(alignment)
    return Preview(learner.step, pictures, alignment)


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
