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


def orthogonalised(matrices: Tensor) -> Tensor:
    """The matrices (..., rows, columns) with singular values near one and the same singular vectors, in float32.

    Newton-Schulz iteration in bfloat16, several times faster on processors with matrix units.
    """
    a, b, c = COEFFICIENTS
    lengths = torch.linalg.vector_norm(matrices, dim=(-2, -1), keepdim=True)
    wide = (matrices / (lengths + 1e-7)).bfloat16().view(-1, *matrices.shape[-2:])
    upright = wide.shape[1] > wide.shape[2]
    if upright:
        wide = wide.mT.contiguous()
    for _ in range(ROUNDS):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return (wide.mT if upright else wide).float().view(matrices.shape)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; convolutions are flattened to (out, height * width * in).

    In that order weights in channels-last layout need not be copied; the order of columns does not change the update.
    """

    def __init__(self, parameters: Any, rate: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step along the gradients; a closure is not called."""
        for group in self.param_groups:
            for parameters in _of_one_shape(group["params"]):
                self._move(parameters, group["lr"], group["momentum"])

    def _move(self, parameters: list[Tensor], rate: float, momentum: float) -> None:
        """Updates parameters of one shape: one batched product costs less than many products of small matrices."""
        gradients = [_gradient(parameter) for parameter in parameters]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        averages = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        updates = torch.stack([_matrix(update) for update in torch._foreach_lerp(gradients, averages, momentum)])
        # A tall matrix has fewer singular values than rows, so its rows would get smaller updates.
        tall = max(1.0, updates.shape[1] / updates.shape[2]) ** 0.5
        for parameter, update in zip(parameters, orthogonalised(updates), strict=True):
            parameter.add_(_as_shaped(update, parameter), alpha=-rate * tall)


def _of_one_shape(parameters: list[Tensor]) -> list[list[Tensor]]:
    """The parameters that have gradients, grouped by shape."""
    together: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            together.setdefault(parameter.shape, []).append(parameter)
    return list(together.values())


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _matrix(tensor: Tensor) -> Tensor:
    return tensor.movedim(1, -1).flatten(1)


def _as_shaped(matrix: Tensor, parameter: Tensor) -> Tensor:
    """What `_matrix` flattened."""
    return matrix.view(parameter.movedim(1, -1).shape).movedim(-1, 1)


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
