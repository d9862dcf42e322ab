"""AdaLink."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from concepts.errors import StudioError
from studio.adapters.base import Adapter, SiteContext
from studio.adapters.lora import kaiming
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Role

Position = Literal["input", "output", "latents", "input_and_latents", "output_and_latents"]
_KINDS = {"input": "vocabulary", "output": "text_output", "latents": "latent_input"}
_ACTIVATIONS = {"none": lambda x: x, "gelu": F.gelu, "relu": F.relu}


class AdaLink(Adapter):
    """Adapts the text embeddings or the latents' first features, and no layer: E' = E + φ(E W_down) W_up.

    E are the token embeddings before the text encoder ("input"), its output, or the UNet's features after its first
    convolution ("latents", the paper's image link), or text and latents, each with matrices of its own. W_down (d, r)
    is random and W_up (r, d) starts at 0. φ is the identity, or a non-linearity, with which no merged weight can have
    the change: it then acts in generation. Trains 2 d r parameters of each. Source: Wang et al., 2023, "Non-intrusive
    adaptation: input-centric parameter-efficient fine-tuning", Eq. 1 and 2; a unified link of text and image needs
    widths that are equal, which those of Stable Diffusion are not. As an adapted layer it is the identity (d, d) after
    E: W' = I + (W_down W_up)ᵀ, and E (…, d) becomes E W'ᵀ.
    """

    @dataclass(frozen=True)
    class Config:
        """The rank, what is adapted, the non-linearity, and the share of E that training sets to zero before W_down."""

        rank: int = 8
        position: Position = "input"
        activation: Literal["none", "gelu", "relu"] = "none"
        dropout: float = 0.0

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 2e-3}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.context, self.step = context or SiteContext(), 0
        self.down = kaiming(config.rank, weight.shape[1], context)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], config.rank))
        self.to(weight.device)

    @property
    def acts_on_output(self) -> bool:
        """Whether there is a non-linearity."""
        return self.config.activation != "none"

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """W_upᵀ and W_downᵀ; the strength scales the delta. With a non-linearity there is no such product: rank 0."""
        if self.acts_on_output:
            return LowRank(self.up[:, :0], self.down[:0])
        return LowRank(up=strength * self.up, down=self.down)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Embeddings (…, d) to adapted ones; the identity is not multiplied."""
        return self.change_output(x, x)

    def change_output(self, output: Tensor, x: Tensor, strength: float = 1.0) -> Tensor:
        """E (…, d) to E'; x is E too."""
        hidden = F.linear(self._dropped(x), self.down.to(x.dtype))
        return output + F.linear(_ACTIVATIONS[self.config.activation](hidden), (strength * self.up).to(x.dtype))

    def _dropped(self, x: Tensor) -> Tensor:
        """E with some entries zero, while gradients are computed; the same ones when a step is repeated."""
        if not self.config.dropout or not torch.is_grad_enabled():
            return x
        kept = 1 - self.config.dropout
        chosen = torch.rand(x.shape[-1], generator=self.context.generator(f"dropout {self.step}")) < kept
        return x * chosen.to(x) / kept

    @classmethod
    def after_step(cls, adapters: Mapping[str, Any], step: int, steps: int) -> None:
        """Another dropout in the next step."""
        for adapter in adapters.values():
            adapter.step = step

    def training_state(self) -> dict[str, Any]:
        """The parameters, and the step of the dropout."""
        return {**super().training_state(), "step": self.step}

    def resume(self, state: dict[str, Any]) -> None:
        """Loads a `training_state`."""
        own = dict(state)
        self.step = own.pop("step", 0)
        super().resume(own)

    @classmethod
    def kinds(cls, config: Config) -> tuple[str, ...]:
        """The embeddings before or after the text encoder, the first features of the latents, or both."""
        return tuple(_KINDS[part] for part in config.position.split("_and_"))

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """2 d r."""
        return config.rank * sum(shape)

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """The rank must fit the width, and dropout be below 1."""
        super().check(shape, config, name)
        if not 0 <= config.dropout < 1:
            raise StudioError(f"dropout {config.dropout:g} is outside the range. Choose 0 or more, below 1.")
