"""The one contract that every method fulfils."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.decomposition import SingularColumns
from studio.errors import StudioError
from studio.low_rank import LowRank


@dataclass(frozen=True)
class SiteContext:
    """What an adapter may know about its site beside the weight.

    `columns` are the site's singular columns, all that were kept; without them a method that needs them
    computes its own. `seed` and `name` decide the random initial values.
    """

    columns: SingularColumns | None = None
    seed: int = 0
    name: str = ""

    def generator(self) -> torch.Generator:
        """A generator that follows from the seed and the site's name alone."""
        digest = hashlib.sha256(f"{self.seed}/{self.name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


class Adapter(nn.Module):
    """Adapts one frozen matrix W of shape (out, in): W' = W + delta.

    The weight is never kept: it is passed to every call. Parameters are float32 and are all that the method
    trains; frozen tensors are buffers that are not saved.
    """

    Config: ClassVar[type[Any]]
    """The method's options, a frozen dataclass."""
    learning_rates: ClassVar[Mapping[str, float]]
    """Default learning rates by part of the model."""
    uses_columns: ClassVar[bool] = False
    """Whether the method starts from the weight's singular columns."""

    def __init__(self, weight: Tensor, config: Any, context: SiteContext | None = None):
        super().__init__()
        self.check(weight.shape, config, context.name if context else "")
        self.config = config

    def low_rank(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """The delta as up (out, r) @ down (r, in), exactly."""
        raise NotImplementedError

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """What training added to the weight, (out, in); at another strength, the method's own scaling of
        it.
        """
        return self.low_rank(weight, strength).dense()

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The adapted layer's output (…, out) for x (…, in), without building the dense delta."""
        low_rank = self.low_rank(weight)
        hidden = F.linear(x, low_rank.down.to(x.dtype))
        return F.linear(x, weight, bias) + F.linear(hidden, low_rank.up.to(x.dtype))

    @classmethod
    def number_trained(cls, shape: tuple[int, ...], config: Any) -> int:
        """How many numbers the method trains for a weight of shape (out, in)."""
        raise NotImplementedError

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Any, name: str = "") -> None:
        """Raise StudioError if the configuration cannot adapt a weight of shape (out, in) at the site
        `name`.
        """
        if not 1 <= config.rank <= min(shape):
            site = f" at {name}" if name else ""
            raise StudioError(f"Choose a rank from 1 to {min(shape)}{site}: {config.rank} is outside that range.")
