"""Data-parallel training: several processes train one concept, each on its shard of every batch."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that `accelerate launch` or torchrun started, or this one alone.

    All sample the same batch, by the seed and the step; each takes its shard, and gradients are summed, so that all
    have the same parameters after every step.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def from_env(cls) -> "ProcessGroup":
        """This process's group."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        state = PartialState(cpu=not torch.cuda.is_available())
        return cls(state.process_index, state.num_processes)

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def shard(self, values: Sequence[T]) -> Sequence[T]:
        """This process's shard of a batch."""
        return values[self.rank :: self.size]

    def all_reduce(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Sums the gradients over all processes; returns the sum of the losses."""
        if self.size == 1:
            return loss
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = reduce(torch.cat([loss.reshape(1), *(gradient.flatten() for gradient in gradients)]), "sum")
        assert isinstance(flat, Tensor)
        summed = flat[1:].split([gradient.numel() for gradient in gradients])
        for parameter, gradient in zip(parameters, summed, strict=True):
            parameter.grad = gradient.view_as(parameter)
        return flat[0]

    def main_process_first(self, work: Callable[[], T]) -> T:
        """Runs `work` in every process, in the main process first, so that the others find the files that it wrote."""
        if not self.is_main_process:
            self.wait()
        result = work()
        if self.is_main_process:
            self.wait()
        return result

    def wait(self) -> None:
        """Waits for all processes."""
        if self.size > 1:
            PartialState().wait_for_everyone()

    def any(self, decision: bool) -> bool:
        """Whether the decision is true in any process."""
        if self.size == 1:
            return decision
        votes = reduce(torch.tensor(float(decision), device=PartialState().device), "sum")
        assert isinstance(votes, Tensor)
        return bool(votes.item() > 0)
