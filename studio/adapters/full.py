"""Full tuning, and Custom Diffusion's tuning of the layers that read the prompt."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext
from studio.layers.target_modules import Role


class Full(Adapter):
    """Trains the whole matrix: W' = W + D.

    D (out, in) starts at 0; the bias stays as it is. Trains in · out parameters. Weight decay pulls towards W. Source:
    Ruiz et al., 2023, "DreamBooth", which tunes all layers; here the chosen target modules.
    """

    @dataclass(frozen=True)
    class Config:
        """Full tuning has no options."""

    config: Config
    learning_rates: ClassVar = {"unet": 2e-4, "text_encoder": 5e-5}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.difference = nn.Parameter(torch.zeros(*weight.shape, device=weight.device))

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """D (out, in); the strength scales it."""
        return strength * self.difference

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """Every entry of the matrix."""
        return shape[0] * shape[1]

    @classmethod
    def sizes(cls, config: Any, narrowest: int, limit: int) -> Iterator[Any]:
        """Full tuning has one size."""
        yield config

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Any, name: str = "") -> None:
        """Every matrix fits."""


class CustomDiffusion(Full):
    """Trains the key and value projections of cross-attention: W' = W + D.

    D (out, in) starts at 0. Trains in · out parameters of each. Several concepts are merged exactly as in the paper by
    `custom_diffusion`. Source: Kumari et al., 2023, "Custom Diffusion", section 3.1.
    """

    learning_rates: ClassVar = {"unet": 5e-4, "text_encoder": 5e-5}

    @classmethod
    def kinds(cls, config: Any) -> tuple[str, ...]:
        """The layers that read the prompt."""
        return ("cross_attention_kv",)
