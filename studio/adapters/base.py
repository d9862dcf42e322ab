"""The interface that every adapter method implements."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from concepts.errors import StudioError
from studio.layers.low_rank import LowRank, truncated
from studio.layers.svd_basis import SingularColumns
from studio.layers.target_modules import Role


@dataclass(frozen=True)
class SiteContext:
    """What an adapter knows about its site besides the weight.

    `columns` are the site's singular columns, all that were kept; without them a method that needs them
    computes its own. `seed` and `name` decide the random initial values, and `role` says what the layer is.
    """

    columns: SingularColumns | None = None
    seed: int = 0
    name: str = ""
    role: Role = "matrix"

    def generator(self, tensor: str = "") -> torch.Generator:
        """A generator seeded by the seed, the site's name and a tensor's: several tensors of one site are independent
        if each has its own name.
        """
        digest = hashlib.sha256("/".join([str(self.seed), self.name, *([tensor] if tensor else [])]).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


LowRankHook = Callable[[Tensor, LowRank], object]
"""Called in every forward pass with the hidden activations (rows, r) of a low-rank change and its factors."""


class Adapter(nn.Module):
    """Adapts one frozen matrix W of shape (out, in) and its bias: W' = W + delta, b' = b + bias_delta.

    Neither is stored: they are passed to every call. Parameters are float32 and are all that the method trains;
    frozen tensors are buffers that are not saved. A method implements `factors` if its delta has low rank by
    construction, else `delta`; other methods build on these, and are overridden where a faster way exists.
    """

    Config: ClassVar[type[Any]]
    """The method's options, a frozen dataclass."""
    learning_rates: ClassVar[Mapping[str, float]]
    """Default learning rates by part of the model."""
    uses_columns: ClassVar[bool] = False
    """Whether the method starts from the weight's singular columns."""
    owns_block: ClassVar[bool] = False
    """Whether column allocation gives each concept its own block, as `first_column`."""
    ups: ClassVar[frozenset[str]] = frozenset()
    """Parameters that LoRA+ trains at a higher rate: the factors B, which start at zero."""
    no_decay: ClassVar[frozenset[str]] = frozenset()
    """Parameters without weight decay, since their initial value is not zero."""

    def __init__(self, weight: Tensor, config: Any, context: SiteContext | None = None):
        super().__init__()
        self.check(tuple(weight.shape), config, context.name if context else "")
        self.config = config
        self.low_rank_hook: LowRankHook | None = None

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank | None:
        """The delta as two thin matrices, exactly; None for a method whose delta may have any rank."""
        return None

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """What training added to the weight, (out, in); at another strength, scaled in the method's way."""
        factors = self.factors(weight, strength)
        assert factors is not None, "a method implements factors or delta"
        return factors.dense()

    def bias_delta(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> Tensor | None:
        """What training added to the bias, (out,), where there may be none yet; None if nothing."""
        return None

    def terms(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> dict[str, Tensor]:
        """The change, exactly, in the terms of `studio.adapters.imported.Imported`, by name: factors where it has low
        rank, else the difference; a method whose own parameters other tools know returns those.
        """
        factors, change = self.factors(weight, strength), self.bias_delta(weight, bias, strength)
        terms = {} if change is None else {"bias": change}
        if factors is None:
            return {"difference": self.delta(weight, strength), **terms}
        return {"up": factors.up, "down": factors.down, **terms} if factors.rank else terms

    def low_rank(self, weight: Tensor, strength: float = 1.0, rank: int | None = None) -> LowRank:
        """The delta as up (out, r) @ down (r, in): exact, or, below the delta's own rank, the best of `rank`."""
        factors, most = self.factors(weight, strength), min(weight.shape)
        if factors is not None and factors.rank <= (most if rank is None else rank):
            return factors
        return truncated(self.delta(weight, strength), most if rank is None else min(rank, most))

    def changed(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """W' (out, in) and b' (out,) in the weight's dtype."""
        adapted = (weight.float() + self.delta(weight)).to(weight.dtype)
        return adapted, added(bias, self.bias_delta(weight, bias), weight.dtype)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The adapted layer's output (…, out) for x (…, in)."""
        factors = self.factors(weight)
        if factors is None:
            return F.linear(x, *self.changed(weight, bias))
        rows = x.reshape(-1, x.shape[-1])
        output = F.linear(rows, weight, added(bias, self.bias_delta(weight, bias), weight.dtype))
        if factors.rank:  # in place, and contiguous for BLAS: up to four times as fast at r = 8
            hidden = F.linear(rows, factors.down.contiguous().to(x.dtype))
            output.addmm_(hidden, factors.up.mT.contiguous().to(output.dtype))
            self.call_hook(hidden, factors)
        return output.view(*x.shape[:-1], -1)

    def call_hook(self, hidden: Tensor, factors: LowRank) -> None:
        """Passes the hidden activations to `low_rank_hook`, if one is set."""
        if self.low_rank_hook:
            self.low_rank_hook(hidden, factors)

    @property
    def acts_on_output(self) -> bool:
        """Whether the change is made to the layer's output in every forward pass, by `change_output`, so that merged
        weights cannot have it.
        """
        return False

    def change_output(self, output: Tensor, x: Tensor, strength: float = 1.0) -> Tensor:
        """The output (…, out) of the layer for x (…, in) with this concept's change, where `acts_on_output`."""
        raise NotImplementedError

    def gated(self, hidden: Tensor) -> Tensor:
        """The hidden activations (n, …, r) of `factors` that act now; all of them, but for a method that
        `acts_on_output`.
        """
        return hidden

    def penalty(self) -> Tensor | None:
        """A scalar that training adds to the loss, if the method has one."""
        return None

    @classmethod
    def after_step(cls, adapters: Mapping[str, Any], step: int, steps: int) -> None:
        """Called with all of the model's adapters, which are of this class, after step 1, 2, … of `steps`, while
        gradients are there.
        """

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors that a concept's file stores of this adapter, by parameter name."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.state_dict().items()}

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Loads a `trained_state`; RuntimeError or LookupError if its tensors do not fit."""
        self.load_state_dict(dict(state))

    def rebase(self) -> None:
        """Makes the current state the starting point of a further training."""

    def training_state(self) -> dict[str, Any]:
        """The state of training for checkpoints: parameters, and what the method keeps between steps."""
        return self.state_dict()

    def resume(self, state: dict[str, Any]) -> None:
        """Loads a `training_state`, so that training continues as if it had not been interrupted."""
        self.load_state_dict(state)

    @classmethod
    def kinds(cls, config: Any) -> tuple[str, ...]:
        """The kinds of layers (keys of studio.layers.target_modules.KINDS) that the method adapts."""
        return ("attention",)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Any, role: Role = "matrix") -> int:
        """The number of parameters that the method trains for a weight of shape (out, in)."""
        raise NotImplementedError

    @classmethod
    def num_published_parameters(cls, shape: tuple[int, ...], config: Any, role: Role = "matrix") -> int:
        """The number of parameters by the method's paper, where that differs."""
        return cls.num_parameters(shape, config, role)

    @classmethod
    def sizes(cls, config: Any, narrowest: int, limit: int) -> Iterator[Any]:
        """The configurations of every size, of which `fit_budget` chooses one.

        `narrowest` is the shortest side of all sites, and `limit` the largest useful size.
        """
        return (replace(config, rank=rank) for rank in range(1, narrowest + 1))

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Any, name: str = "") -> None:
        """Raise StudioError if the configuration cannot adapt a weight of shape (out, in) at the site
        `name`.
        """
        check_range("rank", config.rank, 1, min(shape), name)


def check_range(option: str, value: int, least: int, most: int, name: str = "", why: str = "") -> None:
    """Raise StudioError unless least ≤ value ≤ most."""
    if not least <= value <= most:
        site = f" at {name}" if name else ""
        raise StudioError(f"{option} {value} is outside the range{site}{why}. Choose one from {least} to {most}.")


def check_columns(shape: tuple[int, ...], config: Any, name: str = "") -> None:
    """Raise StudioError unless a concept's block of columns, from `first_column` and `rank` wide, fits the matrix."""
    last = min(shape) - config.rank
    check_range("first column", config.first_column, 0, last, name, f" for rank {config.rank}")


def added(bias: Tensor | None, change: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """The changed bias (out,), where either may be missing."""
    if bias is None or change is None:
        return bias if change is None else change.to(dtype)
    return (bias.float() + change).to(bias.dtype)
