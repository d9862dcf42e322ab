"""What a training tells of itself."""

import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from studio.adapters import Adapter
from studio.layers.sites import Site
from training.engine.train_state import TrainState


@dataclass(frozen=True)
class Record:
    """How a training went, step by step and as a whole.

    `rates` are each part's learning rates by step, 0 where it rests; `alignments` are (step, image alignment of the
    previews); `peak_bytes` is the most memory that was in use, of the GPU where there is one, else of the process;
    `trained` is how many numbers were trained, and `changed` how many of the base's weights are others than before.
    """

    losses: list[float]
    rates: dict[str, list[float]]
    alignments: list[tuple[int, float]]
    seconds: float
    pictures_per_second: float
    peak_bytes: int
    trained: int
    changed: int

    def plain(self) -> dict[str, Any]:
        """The record as JSON can hold it."""
        return asdict(self)


def record_of(state: TrainState, sites: Mapping[str, Site]) -> Record:
    """The record of a training that has just ended, its adapters in their last state."""
    pictures = len(state.losses) * state.recipe.batch_size * state.recipe.gradient_accumulation_steps
    adapters = state.adapters
    trained = sum(parameter.numel() for adapter in adapters.values() for parameter in adapter.parameters())
    return Record(
        losses=state.losses,
        rates=state.rates,
        alignments=state.alignments,
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
        return 0  # it changes what comes out, and no weight
    bias = adapter.bias_delta(site.weight, site.bias)
    return sum(int(delta.count_nonzero()) for delta in (adapter.delta(site.weight), bias) if delta is not None)


def peak_bytes(device: torch.device) -> int:
    """The most memory that was in use on a GPU since the process began, else by the process itself."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
