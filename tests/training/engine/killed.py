"""Trainings in forked processes that are killed, resumed, and compared with one that ran through.

`python killed.py BASE FOLDER TRIALS STEPS EVERY` prints how every trial went as JSON. The base is loaded once, and
torch has one thread, so that a fork has all it needs.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from studio.adapters.concept_file import to_bytes
from studio.models.base_model import Base, load_base
from studio.models.sampling_settings import SamplingSettings
from training.config.recipe import Recipe
from training.data import class_images
from training.engine import checkpoints
from training.engine.trainer import Progress, train_concept

PLACES = ("torn", "half written", "written", "in place")
"""Where in the writing of a checkpoint a process dies; "torn": a power cut, after which half of it is there."""


def train(
    base: Base, folder: Path, priors: Path, steps: int, every: int, on_progress: Callable[[Progress], Any]
) -> bytes:
    recipe = Recipe(rank=4, steps=steps, batch_size=4, num_class_images=4)
    pictures = [Image.new("RGB", (base.side, base.side), colour) for colour in ("navy", "orange", "teal")]
    trained = train_concept(base, "rex", "dog", pictures, recipe, 0, priors, on_progress, None, folder / "kept", every)
    return to_bytes(trained.concept)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_at(place: str, count: int) -> Callable[[Path, bytes], None]:
    """An atomic write whose `count`th call does not survive."""
    real, calls = checkpoints.atomic_write, iter(range(1, 10**6))

    def write(path: Path, data: bytes) -> None:
        if next(calls) < count:
            real(path, data)
            return
        if place in ("half written", "written"):
            kept = data if place == "written" else data[: len(data) // 2]
            path.with_name(f".{'0' * 32}.tmp").write_bytes(kept)
        else:
            real(path, data if place == "in place" else data[: len(data) // 2])
        die()

    return write


def forked(
    work: Callable[[Callable[[Progress], object]], object], reports: int | None = None, seconds: float = 0
) -> bool:
    """Runs the work in a process, which is killed `seconds` after `reports` progress reports; whether
    it came to its end.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        work(lambda _: os.write(writing, b"."))
        os._exit(0)
    os.close(writing)
    while reports and os.read(reading, 1):
        reports -= 1
    if reports == 0:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(reading)
    return status == 0


def trial(base: Base, folder: Path, steps: int, every: int, seconds: float, number: int) -> dict[str, Any]:
    """Kills a training once or twice, every other time while a checkpoint is written, and lets it end after that.

    `seconds` is how long a step takes.
    """
    moments = random.Random(number)
    result, died = folder / "result", []
    # A few die while they generate class images; the others have those already, and die while they train
    priors = folder / "priors" if number % 8 == 0 else folder.parent / "priors"

    def work(on_progress: Callable[[Progress], object]) -> None:
        result.write_bytes(train(base, folder, priors, steps, every, on_progress))

    for most in (steps - 2, 1)[: moments.randint(1, 2)]:
        if number % 2:
            place, count = PLACES[number // 2 % len(PLACES)], moments.randint(1, max(1, steps // every - 1))
            real, checkpoints.atomic_write = checkpoints.atomic_write, dying_at(place, count)
            ended, moment = forked(work), f"{place}, checkpoint {count}"
            checkpoints.atomic_write = real
        else:
            reports, after = moments.randint(0, most), moments.uniform(0, seconds)
            ended, moment = forked(work, reports, after), f"{after:.3f} s after {reports} reports"
        died.append(moment + (" (too late)" if ended else ""))
    kept = sorted(path.name[:13] for path in folder.glob("kept/*/step-*"))
    assert forked(work), "the last process should not have died"
    return {"killed": died, "kept": kept, "digest": hashlib.sha256(result.read_bytes()).hexdigest()}


def main(source: str, place: str, trials: int, steps: int, every: int) -> None:
    torch.set_num_threads(1)
    folder = Path(place)
    class_images._SETTINGS = SamplingSettings(num_inference_steps=2, batch_size=4)
    base = load_base(source, folder / "columns", device="cpu")
    base.decomposition.columns(next(iter(base.sites)))
    (folder / "whole").mkdir()
    times: list[float] = []
    whole = train(base, folder / "whole", folder / "priors", steps, every, lambda _: times.append(time.monotonic()))
    expected, outcomes = hashlib.sha256(whole).hexdigest(), []
    seconds = (times[-1] - times[-steps]) / (steps - 1)
    for number in range(trials):
        (folder / str(number)).mkdir()
        outcomes.append(trial(base, folder / str(number), steps, every, seconds, number))
        print(outcomes[-1], file=sys.stderr, flush=True)
    json.dump({"expected": expected, "trials": outcomes}, sys.stdout)


if __name__ == "__main__":
    source, place, *numbers = sys.argv[1:]
    main(source, place, *map(int, numbers))
