"""The timesteps of the UNet's latest forward pass, for adapters that depend on them."""

from typing import Any

import torch
from torch import Tensor, nn


class CurrentTimesteps:
    """`fractions` are the timesteps, (n,) or (1,), divided by their number, from 0 (no noise) to 1; None outside a
    forward pass.

    Where gradients are computed they stay until `clear`, since gradient checkpointing recomputes activations with them.
    """

    fractions: Tensor | None = None

    def clear(self) -> None:
        """Forget the timesteps."""
        self.fractions = None


CURRENT = CurrentTimesteps()


def record_timesteps(unet: nn.Module, num_train_timesteps: int) -> None:
    """Hooks a UNet of diffusers to record the timesteps of every forward pass in CURRENT."""

    def record(_unet: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        timesteps = inputs[1] if len(inputs) > 1 else options["timestep"]
        CURRENT.fractions = torch.as_tensor(timesteps).detach().float().reshape(-1) / num_train_timesteps

    def forget(_unet: nn.Module, _inputs: tuple[Any, ...], _output: object) -> None:
        if not torch.is_grad_enabled():
            CURRENT.clear()

    unet.register_forward_pre_hook(record, with_kwargs=True)
    unet.register_forward_hook(forget)
