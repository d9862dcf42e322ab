"""Measures time and memory robustly on a busy machine."""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from training.reporting.cpu_name import cpu_name


@dataclass(frozen=True)
class Timing:
    """One contender: the seconds of each round, and each round's ratio to the reference in the same round."""

    name: str
    seconds: np.ndarray
    ratios: np.ndarray

    def cells(self) -> list[str]:
        """Median seconds, median ratio, and the ratio's middle half."""
        low, middle, high = np.quantile(self.ratios, (0.25, 0.5, 0.75))
        return [f"{np.median(self.seconds):.4f}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}"]


def interleaved(contenders: Mapping[str, Callable[[], object]], reference: str, rounds: int) -> list[Timing]:
    """Times every contender once per round, in rotating order, after one warm-up round.

    Temporary slowness then affects all of them; ratios to `reference` are taken within each round.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in [*names[turn:], *names[:turn]]:
            taken = seconds_of(contenders[name])
            if number:
                seconds[name].append(taken)
    base = np.array(seconds[reference])
    return [Timing(name, np.array(taken), np.array(taken) / base) for name, taken in seconds.items()]


def seconds_of(action: Callable[[], object]) -> float:
    """The duration of the action, including its work on a GPU."""
    began = perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter() - began


def added_at_peak(action: Callable[[], object]) -> float:
    """The action's additional peak memory in megabytes, on the GPU where there is one, else of the process (on Linux
    only).
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        action()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # resets the recorded peak
    before = _resident("VmRSS")
    action()
    return (_resident("VmHWM") - before) / 1024


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def subprocess_pool() -> Any:
    """A pool of one process for measuring memory: it has the libraries preloaded, and returns freed memory."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "peft", "diffusers"])
    return context.Pool(1)


def machine() -> str:
    """The machine and the versions that a result depends on, in a sentence."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "peft"))
    model = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()
    return f"Measured on {model}, {torch.get_num_threads()} threads, {packages}."
