"""A training that is stopped, killed or torn ends in the same bytes as one that ran through."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from studio.adapters.concept_file import from_bytes, to_bytes
from studio.models.base_model import Base
from training.config.recipe import Recipe
from training.engine.train_state import DivergenceError, TrainState
from training.engine.trainer import LAST_GOOD, Progress, Training, TrainingStopped, train_concept

STEPS = 6
KILLED = Path(__file__).with_name("killed.py")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Prior pictures, generated once for this file."""
    return tmp_path_factory.mktemp("priors")


@pytest.fixture
def train(base: Base, cache: Path) -> Callable[..., Training]:
    """A function that trains a dog on two pictures."""

    def run(recipe: dict[str, Any] | None = None, **options: Any) -> Training:
        pictures = [Image.new("RGB", (20, 20), colour) for colour in ("navy", "orange")]
        small = {"rank": 4, "steps": STEPS, "batch_size": 4, "num_class_images": 4, **(recipe or {})}
        return train_concept(base, "rex", "dog", pictures, Recipe(**small), cache=cache, **options)

    if not any(cache.iterdir()):  # or the first test would see them being generated
        run({"steps": 1})
    return run


def after(calls: int) -> Callable[[], bool]:
    """Stops a training at the given call."""
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= calls


def assert_same(one: Training, other: Training) -> None:
    assert to_bytes(one.concept) == to_bytes(other.concept)
    assert one.losses == other.losses


@pytest.mark.parametrize(
    ("adapter", "stops"),
    [("spectral_additive", [1]), ("spectral_rotational", [3]), ("ada_lora", [2, 3]), ("ada_link", [4])],
)
def test_a_stopped_training_ends_in_the_same_bytes(train, tmp_path, adapter: str, stops: list[int]):
    whole = train({"adapter": adapter})
    for calls in stops:
        with pytest.raises(TrainingStopped, match=f"of {STEPS}"):
            train({"adapter": adapter}, checkpoints=tmp_path, stop=after(calls))
    assert_same(train({"adapter": adapter}, checkpoints=tmp_path), whole)


def test_it_goes_on_after_the_step_where_it_was_stopped(train, tmp_path, base: Base, state_of):
    before, steps = state_of(base), []
    with pytest.raises(TrainingStopped) as stopped:
        train(checkpoints=tmp_path, stop=after(5), every=2)
    assert (stopped.value.step, stopped.value.steps) == (4, STEPS)
    assert state_of(base) == before
    train(checkpoints=tmp_path, on_progress=lambda progress: steps.append(progress.step))
    assert steps == [5, 6]
    train(checkpoints=tmp_path, on_progress=lambda progress: steps.append(progress.step))
    assert steps == [5, 6], "what has ended is not trained again"


def test_an_interrupt_loses_the_steps_since_the_checkpoint_and_no_more(train, tmp_path):
    def interrupt(progress: Progress) -> None:
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(checkpoints=tmp_path, every=2, on_progress=interrupt)
    steps: list[int] = []
    training = train(checkpoints=tmp_path, every=2, on_progress=lambda progress: steps.append(progress.step))
    assert steps == [5, 6]
    assert_same(training, train())


def test_a_training_that_goes_on_from_another_is_resumed_too(train, tmp_path):
    first = train({"adapter": "spectral_rotational"}).concept
    further = {"adapter": "spectral_rotational", "seed": 1}
    whole = train(further, start=first)
    with pytest.raises(TrainingStopped):
        train(further, start=first, checkpoints=tmp_path, stop=after(4))
    assert_same(train(further, start=first, checkpoints=tmp_path), whole)


def test_another_training_does_not_go_on_from_the_checkpoints(train, tmp_path):
    with pytest.raises(TrainingStopped):
        train(checkpoints=tmp_path, stop=after(4))
    whole = train({"seed": 1})  # generates class images of its own
    steps: list[int] = []
    other = train({"seed": 1}, checkpoints=tmp_path, on_progress=lambda progress: steps.append(progress.step))
    assert steps == [*range(1, STEPS + 1)]
    assert_same(other, whole)


def test_the_number_of_threads_belongs_to_the_training(train, tmp_path, monkeypatch):
    used: list[int] = []
    optimizer_step = TrainState.optimizer_step
    monkeypatch.setattr(
        TrainState,
        "optimizer_step",
        lambda self, losses: used.append(torch.get_num_threads()) or optimizer_step(self, losses),
    )
    before = torch.get_num_threads()
    train({"threads": before + 1, "steps": 1}, checkpoints=tmp_path / "given")
    assert used == [before + 1]
    assert torch.get_num_threads() == before
    with pytest.raises(TrainingStopped):
        train(checkpoints=tmp_path / "found", stop=after(3))
    torch.set_num_threads(before + 1)
    try:
        train(checkpoints=tmp_path / "found")
    finally:
        torch.set_num_threads(before)
    assert used[1:] == [before] * STEPS


def test_priors_follow_from_the_number_of_threads(train, base: Base, cache: Path):
    train()
    kept = len(list(cache.iterdir()))
    train({"threads": torch.get_num_threads() + 2, "steps": 1})
    assert len(list(cache.iterdir())) == kept + 2


def test_a_training_that_diverges_returns_the_last_finite_state(train, tmp_path, monkeypatch):
    optimizer_step = TrainState.optimizer_step

    def worse(self: TrainState, losses: Iterable[torch.Tensor]) -> None:
        optimizer_step(self, (loss * float("nan") if self.step == 5 else loss for loss in losses))

    monkeypatch.setattr(TrainState, "optimizer_step", worse)
    message = r"NaN or infinite at step 6.*Lower unet_lr.*losses before were .*concept after step 4"
    with pytest.raises(DivergenceError, match=message):
        train(checkpoints=tmp_path, every=2)
    (file,) = tmp_path.glob(f"*/{LAST_GOOD}")
    good = from_bytes(file.read_bytes(), "it")
    monkeypatch.undo()
    assert any(tensor.any() for state in good.adapters.values() for tensor in state.values())
    assert len(train(start=good).losses) == STEPS


def killed(base: str, folder: Path, *numbers: int) -> dict[str, Any]:
    """What `killed.py` reports."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(KILLED), base, str(folder), *map(str, numbers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return json.loads(done.stdout)


def assert_resumed(report: dict[str, Any], trials: int) -> None:
    assert len(report["trials"]) == trials
    assert {trial["digest"] for trial in report["trials"]} == {report["expected"]}, report
    assert sum("too late" in moment for trial in report["trials"] for moment in trial["killed"]) < trials / 2
    assert any("torn" in moment for trial in report["trials"] for moment in trial["killed"])


def test_a_killed_training_ends_in_the_same_bytes(tiny_folder: Path, tmp_path):
    assert_resumed(killed(str(tiny_folder), tmp_path, 4, 10, 2), 4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_training_killed_at_40_moments_ends_in_the_same_bytes(tiny_folder: Path, tmp_path):
    assert_resumed(killed(str(tiny_folder), tmp_path, 40, 10, 2), 40)
