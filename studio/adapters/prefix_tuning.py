"""Prefix tuning."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import Adapter, SiteContext, check_range
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Role


class PrefixTuning(Adapter):
    """Adds n trained keys and values to those of the prompt: K' = [K; P_K], V' = [V; P_V] in each cross-attention.

    P_K and P_V (n, out) start as the keys and values of random tokens. Several concepts are merged by concatenation;
    in regions, a concept's keys and values are seen only where its name is. The strength scales the values, and at 0
    nothing is added. No other tool reads it. Trains n out parameters of each layer. Source: Li and Liang, 2021,
    "Prefix-tuning", section 4.2, without its reparametrization by an MLP.
    """

    @dataclass(frozen=True)
    class Config:
        """The number n of keys and values (PEFT: `num_virtual_tokens`)."""

        num_virtual_tokens: int = 8

    config: Config
    learning_rates: ClassVar = {"unet": 1e-2, "text_encoder": 1e-2}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.of_values = context is not None and context.name.endswith("to_v")
        generator = context.generator("rows") if context else None
        tokens = torch.randn(config.num_virtual_tokens, weight.shape[1], generator=generator)
        self.rows = nn.Parameter(tokens.to(weight.device) @ weight.detach().float().mT)

    @property
    def acts_on_output(self) -> bool:
        """True: the weight stays as it is."""
        return True

    @property
    def num_appended(self) -> int:
        """How many rows are appended."""
        return len(self.rows)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """Nothing: a product of rank 0."""
        return LowRank(self.rows.new_zeros(weight.shape[0], 0), self.rows.new_zeros(0, weight.shape[1]))

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Keys or values (batch, tokens + n, out) of tokens x (batch, tokens, in)."""
        return self.change_output(F.linear(x, weight, bias), x)

    def change_output(self, output: Tensor, x: Tensor, strength: float = 1.0) -> Tensor:
        """Keys or values (batch, tokens, out) with n more of them; with none at strength 0."""
        if strength == 0:
            return output
        rows = (strength * self.rows if self.of_values else self.rows).to(output.dtype)
        return torch.cat([output, rows.expand(len(output), -1, -1)], 1)

    @classmethod
    def kinds(cls, config: Config) -> tuple[str, ...]:
        """The keys and values of cross-attention."""
        return ("cross_attention_kv",)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """n out."""
        return config.num_virtual_tokens * shape[0]

    @classmethod
    def sizes(cls, config: Config, narrowest: int, limit: int) -> Iterator[Config]:
        """1 to 64 tokens."""
        return (replace(config, num_virtual_tokens=count) for count in range(1, 65))

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """From 1 to 1024 tokens."""
        check_range("num_virtual_tokens", config.num_virtual_tokens, 1, 1024, name)
