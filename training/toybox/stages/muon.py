"""Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon): momentum, orthogonalized.

It converges several times faster than AdamW here. It is for matrices, and convolutions as matrices; biases, norms and
embeddings use AdamW.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration: after five iterations singular values are between 0.7 and 1.2."""
ROUNDS = 5


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix (rows, columns) with singular values near one and the same singular vectors, in float32.

    Newton-Schulz iteration in bfloat16, several times faster on processors with matrix units.
    """
    a, b, c = COEFFICIENTS
    wide = (matrix / (matrix.norm() + 1e-7)).bfloat16()
    upright = wide.shape[0] > wide.shape[1]
    if upright:
        wide = wide.T
    for _ in range(ROUNDS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return (wide.T if upright else wide).float()


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; tensors of more than two dimensions are flattened to (first, rest)."""

    def __init__(self, parameters: Any, rate: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step along the gradients; a closure is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"], group["momentum"])

    def _move(self, parameter: Tensor, rate: float, momentum: float) -> None:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        average = state["momentum"].lerp_(parameter.grad, 1 - momentum)
        update = parameter.grad.lerp(average, momentum).flatten(1)
        # A tall matrix has fewer singular values than rows, so its rows would get smaller updates.
        tall = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
        parameter.add_(orthogonalised(update).view(parameter.shape), alpha=-rate * tall)


class MuonWithAdamW:
    """Muon for a model's matrices and convolutions and AdamW for the rest, as one optimizer with one state."""

    def __init__(self, groups: Iterable[tuple[nn.Module, float]], rate: float, other_rate: float):
        """Takes (module, scale) for every part; `rate` is Muon's learning rate and `other_rate` AdamW's."""
        matrices: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for module, scale in groups:
            embedded = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
            split: tuple[list[Tensor], list[Tensor]] = ([], [])
            for parameter in module.parameters():
                split[parameter.ndim < 2 or id(parameter) in embedded].append(parameter)
            matrices.append({"params": split[0], "scale": scale})
            others.append({"params": split[1], "scale": scale * other_rate / rate})
        self.muon = Muon(matrices, rate)
        self.adam = torch.optim.AdamW(others, other_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both; each has a "scale", a factor on the common learning rate."""
        return [*self.muon.param_groups, *self.adam.param_groups]

    def step(self) -> None:
        """One step of both."""
        self.muon.step()
        self.adam.step()

    def zero_grad(self) -> None:
        """Resets the gradients of both."""
        self.muon.zero_grad()
        self.adam.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the states of both."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adam.load_state_dict(state_dict["adam"])
