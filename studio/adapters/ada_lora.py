"""AdaLoRA."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.adapters.base import Adapter, SiteContext, check_range
from studio.adapters.lora import gaussian
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Role

SMOOTHING = 0.85
"""β₁ and β₂ of Eq. 9 and 10: the smoothing of sensitivity and uncertainty."""


STD = 0.02
"""The standard deviation of P's and Q's initial values, as in PEFT."""


class AdaLora(Adapter):
    """LoRA in the form of an SVD, whose ranks are allocated by importance: W' = W + P diag(λ) Q.

    P (out, r) and Q (r, in) start at N(0, 0.02²), and a penalty makes them orthonormal; λ (r,) starts at 0. While
    training, the least important of all layers' triplets are pruned (λ = 0) until `target_rank` of them are left per
    layer, on average; only these are stored. Trains r (in + out + 1) parameters. Source: Zhang et al., 2023, "AdaLoRA",
    Eq. 3, 4, 8 to 11 and 13.
    """

    @dataclass(frozen=True)
    class Config:
        """PEFT's init_r; target_r, half of it if None; orth_reg_weight; tinit and tfinal as fractions of the steps."""

        rank: int = 8
        target_rank: int | None = None
        orthogonality: float = 0.1
        warm_up: float = 0.15
        final: float = 0.3

        @property
        def target(self) -> int:
            """The mean rank that stays."""
            return max(1, self.rank // 2) if self.target_rank is None else self.target_rank

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 5e-4}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.left = gaussian(weight.shape[0], config.rank, STD, context, "left")
        self.values = nn.Parameter(torch.zeros(config.rank))
        self.right = gaussian(config.rank, weight.shape[1], STD, context, "right")
        self._kept: Tensor | None = None
        # by parameter: sensitivity and uncertainty, smoothed
        self._smoothed: dict[str, tuple[Tensor, Tensor]] = {}
        self.to(weight.device)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """P diag(λ) and Q; the strength scales the delta."""
        return LowRank(up=self.left * (strength * self.values), down=self.right)

    def trained_state(self) -> dict[str, Tensor]:
        """The triplets that pruning has left, or all before it began."""
        state = super().trained_state()
        if self._kept is None:
            return state
        left = self._kept.bool().cpu()
        return {"left": state["left"][:, left], "values": state["values"][left], "right": state["right"][left]}

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Loads a `trained_state`, which may have fewer triplets than `rank`."""
        rank = min(len(state["values"]), self.config.rank)
        self.left = nn.Parameter(self.left.detach()[:, :rank])
        self.values = nn.Parameter(self.values.detach()[:rank])
        self.right = nn.Parameter(self.right.detach()[:rank])
        super().load_trained(state)

    def penalty(self) -> Tensor:
        """|PᵀP − I|² + |QQᵀ − I|², times `orthogonality`."""
        identity = torch.eye(len(self.values), device=self.left.device)
        left, right = self.left.mT @ self.left - identity, self.right @ self.right.mT - identity
        return self.config.orthogonality * (left.square().sum() + right.square().sum())

    @classmethod
    @torch.no_grad()
    def after_step(cls, adapters: Mapping[str, "AdaLora"], step: int, steps: int) -> None:
        """Prunes triplets to the schedule's budget; after the last pruning step the mask is fixed.

        A further training of a pruned concept keeps the triplets that it has.
        """
        config = next(iter(adapters.values())).config
        if any(len(adapter.values) < config.rank for adapter in adapters.values()):
            return
        done, pruning_end = step / steps, 1 - config.final
        importance = {name: adapter._importance() for name, adapter in adapters.items()}
        if done <= pruning_end:
            share = min(1.0, max(0.0, (done - config.warm_up) / max(pruning_end - config.warm_up, 1e-9)))
            mean_rank = config.target + (config.rank - config.target) * (1 - share) ** 3
            kept = _highest(importance, round(mean_rank * len(adapters)))
            for name, adapter in adapters.items():
                adapter._kept = kept[name]
        for adapter in adapters.values():
            if adapter._kept is not None:
                adapter.values.mul_(adapter._kept)

    def _importance(self) -> Tensor:
        """The importance of each triplet, (r,): that of λ, plus the means of its column of P and its row of Q."""
        scores = {name: self._score(name, parameter) for name, parameter in self.named_parameters()}
        return scores["values"] + scores["left"].mean(0) + scores["right"].mean(1)

    def _score(self, name: str, parameter: Tensor) -> Tensor:
        """Smoothed sensitivity |w ∇w| times its uncertainty, by entry."""
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        sensitivity = (parameter * gradient).abs()
        zero = torch.zeros_like(parameter)
        mean, spread = self._smoothed.get(name, (zero, zero))
        mean = SMOOTHING * mean + (1 - SMOOTHING) * sensitivity
        spread = SMOOTHING * spread + (1 - SMOOTHING) * (sensitivity - mean).abs()
        self._smoothed[name] = (mean, spread)
        return mean * spread

    def training_state(self) -> dict[str, Any]:
        """Besides the parameters, the pruning mask and the smoothed importance."""
        return {"parameters": super().training_state(), "kept": self._kept, "smoothed": self._smoothed}

    def resume(self, state: dict[str, Any]) -> None:
        """Loads a `training_state`."""
        super().resume(state["parameters"])
        self._kept = state["kept"] if state["kept"] is None else state["kept"].to(self.values.device)
        self._smoothed = {
            name: (mean.to(self.values.device), spread.to(self.values.device))
            for name, (mean, spread) in state["smoothed"].items()
        }

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """r (in + out + 1)."""
        return config.rank * (sum(shape) + 1)

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """Besides the rank, the target must lie below it, and the shares of the steps within the training."""
        super().check(shape, config, name)
        check_range("target rank", config.target, 1, config.rank, name)
        if min(config.warm_up, config.final) < 0 or config.warm_up + config.final > 1:
            raise StudioError(
                "warm_up and final are fractions of the steps. Choose two from 0 to 1 whose sum is at most 1."
            )


def _highest(scores: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """For each adapter a mask (r,) of those of its triplets that are among the `count` highest of all."""
    flat = torch.cat(list(scores.values()))
    mask = torch.zeros_like(flat).index_fill_(0, flat.topk(count).indices, 1.0)
    return dict(zip(scores, mask.split([len(score) for score in scores.values()]), strict=True))
