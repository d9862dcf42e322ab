"""What every stage of making toybox shares: a resumable loop, learning-rate schedule, weight averaging."""

import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from concepts.storage import atomic_write

CHECKPOINT_SECONDS = 120
_console = Console(stderr=True)
M = TypeVar("M", bound=nn.Module)


class Stateful(Protocol):
    """Anything that a checkpoint keeps: a module, an optimizer, an average."""

    def state_dict(self) -> dict[str, Any]:
        """Its state as tensors and numbers."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Takes the state back."""
        ...


class Average:
    """An exponential moving average of a module's parameters; `copy_to` puts it into a module."""

    def __init__(self, module: nn.Module, decay: float = 0.999):
        self.decay = decay
        self.values = [parameter.detach().clone() for parameter in module.parameters()]

    def update(self, module: nn.Module, step: int) -> None:
        """One step of averaging, with a shorter memory while there is little to remember."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = [parameter.detach() for parameter in module.parameters()]
        torch._foreach_lerp_(self.values, parameters, 1 - decay)

    def copy_to(self, module: nn.Module) -> None:
        """Overwrites the module's parameters with the averages."""
        for parameter, value in zip(module.parameters(), self.values, strict=True):
            parameter.data.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """The averages, in the module's order."""
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the averages back."""
        for value, loaded in zip(self.values, state_dict["values"], strict=True):
            value.copy_(loaded)


def channels_last(module: M, device: str) -> M:
    """The module on a device, its convolutions laid out as they are fastest."""
    module.to(device)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200, decay: float = 0.3) -> float:
    """Warm-up, a plateau, and a linear fall to zero over the last `decay` share of the steps."""
    return peak * min(1.0, (step + 1) / warmup, (steps - step) / max(1.0, decay * steps))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The same rate for every parameter group, times the group's own "scale"."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def descend(
    loss: Tensor,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average,
    step: int,
    longest: float | None = None,
) -> None:
    """One step down the loss's gradient, which is cut to the length `longest` if one is given; the average follows."""
    loss.backward()
    if longest is not None:
        nn.utils.clip_grad_norm_(model.parameters(), longest)
    optimizer.step()
    optimizer.zero_grad()
    average.update(model, step)


def step_rng(seed: int, step: int) -> np.random.Generator:
    """The random numbers of one step: a resumed run draws what an unbroken one would have drawn."""
    torch.manual_seed(seed * 1_000_003 + step)
    return np.random.default_rng((seed, step))


def run_stage(
    name: str, folder: Path, steps: int, parts: Mapping[str, Stateful], update: Callable[[int], Tensor]
) -> None:
    """Calls `update(step)`, which returns the loss, for every step that is not yet done.

    The parts' states are kept in `folder/name.pt`, written atomically every two minutes and at the end, and a
    later call goes on from there.
    """
    path = folder / f"{name}.pt"
    step = _restore(path, parts)
    saved = told = time.monotonic()
    losses: list[Tensor] = []
    began, first = saved, step
    while step < steps:
        losses.append(update(step).detach())
        step += 1
        now = time.monotonic()
        if now - told > 30 or step == steps:
            mean = torch.stack(losses[-200:]).mean().item()
            left = (now - began) / (step - first) * (steps - step) / 60
            _console.print(f"{name}: step {step} of {steps}, loss {mean:.4f}, {left:.1f} minutes left")
            told, losses = now, losses[-200:]
        if now - saved > CHECKPOINT_SECONDS or step == steps:
            _save(path, step, parts)
            saved = now


def _restore(path: Path, parts: Mapping[str, Stateful]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    for key, part in parts.items():
        part.load_state_dict(state[key])
    return int(state["step"])


def _save(path: Path, step: int, parts: Mapping[str, Stateful]) -> None:
    buffer = io.BytesIO()
    torch.save({"step": step, **{key: part.state_dict() for key, part in parts.items()}}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, buffer.getvalue())
