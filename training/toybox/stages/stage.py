"""Common code of toybox's training stages: a resumable loop, learning rate schedule, weight averaging."""

import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from concepts.storage import atomic_write
from training.toybox.stages.training_log import TrainingLog

CHECKPOINT_SECONDS = 100
_console = Console(stderr=True)
M = TypeVar("M", bound=nn.Module)


class Stateful(Protocol):
    """Anything that a checkpoint stores: a module, an optimizer, averaged weights."""

    def state_dict(self) -> dict[str, Any]:
        """Its state as tensors and numbers."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Loads the state."""
        ...


class Optimizer(Stateful, Protocol):
    """The optimizer interface of `optimizer_step` and `set_learning_rate`."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameters with their learning rates."""
        ...

    def step(self) -> Any:
        """One step along the gradients."""
        ...

    def zero_grad(self) -> Any:
        """Resets the gradients."""
        ...


EVERY_STEP = 100


class EMAWeights:
    """An exponential moving average of a module's parameters; `copy_to` copies it to a module.

    After the first `EVERY_STEP` steps it is updated once in `every` steps, with the decay of that many steps, which is
    nearly the same and costs less.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999, every: int = 1):
        self.decay, self.every = decay, every
        self.values = [parameter.detach().clone() for parameter in module.parameters()]

    def update(self, module: nn.Module, step: int) -> None:
        """One step of averaging, with a lower decay in the first steps."""
        steps = self.every if step >= EVERY_STEP else 1
        if (step + 1) % steps:
            return
        decay = min(self.decay, (1 + step) / (10 + step)) ** steps
        parameters = [parameter.detach() for parameter in module.parameters()]
        torch._foreach_lerp_(self.values, parameters, 1 - decay)

    def copy_to(self, module: nn.Module) -> None:
        """Overwrites the module's parameters with the averages."""
        for parameter, value in zip(module.parameters(), self.values, strict=True):
            parameter.data.copy_(value)

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """While open, the module is in evaluation mode and has the averaged parameters."""
        kept = [parameter.detach().clone() for parameter in module.parameters()]
        self.copy_to(module)
        module.eval()
        try:
            yield
        finally:
            module.train()
            for parameter, value in zip(module.parameters(), kept, strict=True):
                parameter.data.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """The averages, in the module's order."""
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the averages."""
        for value, loaded in zip(self.values, state_dict["values"], strict=True):
            value.copy_(loaded)


def channels_last(module: M, device: str) -> M:
    """The module on a device, its convolutions in the channels-last memory format."""
    module.to(device)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def learning_rate(
    step: int, steps: int, peak: float, warmup: int = 200, decay: float = 0.25, floor: float = 0.03
) -> float:
    """Warm-up, a plateau, and linear decay to the fraction `floor` over the final fraction `decay` of the steps.

    It depends only on its arguments, so `steps` may change between two runs.
    """
    left = (steps - step) / max(1.0, decay * steps)
    return peak * min(1.0, (step + 1) / warmup, floor + (1 - floor) * max(0.0, left) if decay else 1.0)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Sets the learning rate of every parameter group, times the group's "scale"."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def optimizer_step(
    loss: Tensor,
    model: nn.Module,
    optimizer: Optimizer,
    average: EMAWeights,
    step: int,
    max_grad_norm: float | None = None,
) -> None:
    """Backward pass, gradient clipping to `max_grad_norm` if given, optimizer step, and update of the average."""
    loss.backward()
    if max_grad_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    average.update(model, step)


def step_rng(seed: int, step: int) -> np.random.Generator:
    """The random generator of one step, seeded so that a resumed run equals an uninterrupted one."""
    torch.manual_seed(seed * 1_000_003 + step)
    return np.random.default_rng((seed, step))


def run_stage(
    name: str,
    folder: Path,
    steps: int,
    parts: Mapping[str, Stateful],
    update: Callable[[int], Tensor],
    training_log: TrainingLog | None = None,
) -> None:
    """Calls `update(step)`, which returns the loss, for every step that is not yet done.

    The parts' states are saved in `folder/name.pt`, written atomically every `CHECKPOINT_SECONDS` and at the end, and
    a later call resumes from there. Lines and sample sheets are written to `training_log`.
    """
    path = folder / f"{name}.pt"
    step, spent = _restore(path, parts)
    saved = reported = time.monotonic()
    clock = written = time.process_time()
    spent -= clock
    losses: list[Tensor] = []
    began, first = saved, step
    while step < steps:
        losses.append(update(step).detach())
        step += 1
        now, clock = time.monotonic(), time.process_time()
        if now - reported > 30 or step == steps:
            mean = torch.stack(losses[-200:]).mean().item()
            left = (now - began) / (step - first) * (steps - step) / 60
            _console.print(f"{name}: step {step} of {steps}, loss {mean:.4f}, {left:.1f} minutes left")
            reported, losses = now, losses[-200:]
        if training_log:
            training_log.write_sheet(name, step)
        if training_log and (clock - written > training_log.seconds or step == steps):
            training_log.write_line(name, step, spent + clock, torch.stack(losses[-200:]).mean().item())
            written = clock
        if now - saved > CHECKPOINT_SECONDS or step == steps:
            _save(path, step, parts, spent + clock)
            saved = now


def _restore(path: Path, parts: Mapping[str, Stateful]) -> tuple[int, float]:
    """The completed steps and the CPU seconds used; loads the parts' states."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True, map_location="cpu")
    for key, part in parts.items():
        part.load_state_dict(state[key])
    return int(state["step"]), float(state.get("seconds", 0))


def _save(path: Path, step: int, parts: Mapping[str, Stateful], seconds: float) -> None:
    buffer = io.BytesIO()
    torch.save({"step": step, "seconds": seconds, **{key: part.state_dict() for key, part in parts.items()}}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, buffer.getvalue())
