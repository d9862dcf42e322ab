"""Metrics of a training run."""

import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from studio.adapters import Adapter
from studio.layers.target_modules import Site
from training.engine.train_state import TrainState


@dataclass(frozen=True)
class RunMetrics:
    """Metrics of a training run, by step and in total.

    `rates` are each part's learning rates by step, 0 while it is frozen; `alignments` are (step, image alignment of the
    validation images), and `validation_losses` (step, loss on the pictures that are not trained on); `peak_bytes` is
    the peak memory, of the GPU where there is one, else of the process; `trained` is the number of trained parameters,
    and `changed` the number of the base's weights that they change.
    """

    losses: list[float]
    rates: dict[str, list[float]]
    alignments: list[tuple[int, float]]
    validation_losses: list[tuple[int, float]]
    seconds: float
    pictures_per_second: float
    peak_bytes: int
    trained: int
    changed: int

    def plain(self) -> dict[str, Any]:
        """The metrics as JSON data."""
        return asdict(self)


def run_metrics_of(state: TrainState, sites: Mapping[str, Site]) -> RunMetrics:
    """The metrics of a training that has just ended, with its adapters in their final state."""
    pictures = len(state.losses) * state.recipe.batch_size * state.recipe.gradient_accumulation_steps
    adapters = state.adapters
    trained = sum(parameter.numel() for adapter in adapters.values() for parameter in adapter.parameters())
    return RunMetrics(
        losses=state.losses,
        rates=state.rates,
        alignments=state.alignments,
        validation_losses=state.validation_losses,
        seconds=state.seconds,
        pictures_per_second=pictures / max(state.seconds, 1e-9),
        peak_bytes=peak_bytes(state.device),
        trained=trained + sum(v.numel() for v in state.token.values()) * state.recipe.train_token,
        changed=sum(changed_by(adapter, sites[name]) for name, adapter in adapters.items()),
    )


@torch.no_grad()
def changed_by(adapter: Adapter, site: Site) -> int:
    """How many of a layer's weights and biases an adapter changes."""
    if site.role == "output":
        return 0  # it changes an output, and no weight
    bias = adapter.bias_delta(site.weight, site.bias)
    return sum(int(delta.count_nonzero()) for delta in (adapter.delta(site.weight), bias) if delta is not None)


def peak_bytes(device: torch.device) -> int:
    """The peak memory on a GPU since the process started, else of the process itself."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
