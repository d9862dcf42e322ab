"""Mixed precision: autocast, and frozen weights that are cast once."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from concepts.errors import StudioError
from studio.models.base_model import Base


def cast_to(precision: str, base: Base) -> Callable[[], AbstractContextManager[Any]]:
    """A factory of autocast contexts of the recipe's precision; StudioError where the device does not support it."""
    if precision == "auto":
        return base.autocast
    if precision == "float32":
        return nullcontext
    if precision == "float16" and base.device.type == "cpu":
        raise StudioError("float16 needs a GPU. Choose another mixed_precision, such as auto or float32.")
    dtype = getattr(torch, precision)

    def cast() -> AbstractContextManager[Any]:
        return torch.autocast(base.device.type, dtype)

    return cast


@contextmanager
def cast_once(base: Base, precision: str) -> Iterator[None]:
    """While open, frozen weights are in the precision to which autocast would otherwise cast them in every step.

    Results are identical. Adapted layers keep their weights, which some methods use in computations.
    """
    dtype = _dtype(cast_to(precision, base), base.device)
    if dtype is None or dtype != _dtype(base.autocast, base.device):  # validation images use them too
        yield
        return
    matrices = (nn.Linear, nn.Conv2d)  # exact types: adapted layers are subclasses
    layers: list[Any] = [m for part in base.parts.values() for m in part.modules() if type(m) in matrices]
    kept = [(layer, layer.weight, layer.bias) for layer in layers]
    try:
        for layer, weight, bias in kept:
            layer.weight, layer.bias = _cast(weight, dtype), None if bias is None else _cast(bias, dtype)
        yield
    finally:
        for layer, weight, bias in kept:
            layer.weight, layer.bias = weight, bias


def _dtype(cast: Callable[[], AbstractContextManager[Any]], device: torch.device) -> torch.dtype | None:
    """The autocast dtype of such a context; None without autocast."""
    with cast():
        return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def _cast(frozen: nn.Parameter, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(frozen.detach().to(dtype), requires_grad=False)
