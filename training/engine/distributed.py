"""Several processes that train one concept together, each on its part of every batch."""

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

    All draw the same batch, since it follows from the seed and the step; each takes its part, and gradients are added
    up, so that all hold the same parameters after every step.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def from_env(cls) -> "ProcessGroup":
        """The group that this process belongs to."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        state = PartialState(cpu=not torch.cuda.is_available())
        return cls(state.process_index, state.num_processes)

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and speaks for all."""
        return self.rank == 0

    def shard(self, values: Sequence[T]) -> Sequence[T]:
        """This process's part of a batch."""
        return values[self.rank :: self.size]

    def all_reduce(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Gives every process the sum of all gradients; returns the sum of the losses."""
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
        """Does the work in every process, in the leading one before the others: they find what it wrote."""
        if not self.is_main_process:
            self.wait()
        result = work()
        if self.is_main_process:
            self.wait()
        return result

    def wait(self) -> None:
        """Waits until every process has come here."""
        if self.size > 1:
            PartialState().wait_for_everyone()

    def any(self, decision: bool) -> bool:
        """Whether any process decided so."""
        if self.size == 1:
            return decision
        votes = reduce(torch.tensor(float(decision), device=PartialState().device), "sum")
        assert isinstance(votes, Tensor)
        return bool(votes.item() > 0)
