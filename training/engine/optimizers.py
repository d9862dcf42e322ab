"""The optimizers and learning rate schedules of recipes."""

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from prodigyopt import Prodigy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers.optimization import Adafactor

from concepts.errors import StudioError
from training.config.recipe import Recipe

Groups = list[dict[str, Any]]


def build_optimizer(groups: Groups, recipe: Recipe, device: torch.device) -> Optimizer:
    """The recipe's optimizer of these parameter groups; call `check_optimizer` before."""
    name = recipe.optimizer
    if recipe.low_memory and name == "adamw" and has_8_bit(device):
        name = "adamw8bit"
    return OPTIMIZERS[name](groups, device)


def check_optimizer(recipe: Recipe, device: torch.device) -> None:
    """Raises StudioError for an optimizer that this machine does not support."""
    if recipe.optimizer == "adamw8bit" and not has_8_bit(device):
        raise StudioError(
            "adamw8bit needs an NVIDIA GPU and the package bitsandbytes. Choose another optimizer, such as "
            "adamw or adafactor."
        )


def has_8_bit(device: torch.device) -> bool:
    """Whether 8-bit AdamW is available."""
    return device.type == "cuda" and find_spec("bitsandbytes") is not None


def _adamw(groups: Groups, _: torch.device) -> Optimizer:
    return torch.optim.AdamW(groups)


def _adamw8bit(groups: Groups, _: torch.device) -> Optimizer:
    from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]

    return AdamW8bit(groups)


def _adafactor(groups: Groups, _: torch.device) -> Optimizer:
    """With fixed learning rates as for AdamW (Shazeer and Stern, 2018, without relative steps)."""
    return Adafactor(groups, scale_parameter=False, relative_step=False, warmup_init=False)


def _prodigy(groups: Groups, _: torch.device) -> Optimizer:
    """Mishchenko and Defazio, 2023, with their recommended settings for diffusion models."""
    for group in groups:
        group["lr"] = 1.0
    return Prodigy(groups, decouple=True, use_bias_correction=True, safeguard_warmup=True)


OPTIMIZERS: dict[str, Callable[[Groups, torch.device], Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "adafactor": _adafactor,
    "prodigy": _prodigy,
}

LR_SCHEDULES: dict[str, Callable[[float, int], float]] = {
    "linear": lambda done, _: 1 - done,
    "constant": lambda _done, _: 1.0,
    "cosine": lambda done, _: (1 + math.cos(math.pi * done)) / 2,
    "cosine_restarts": lambda done, restarts: (1 + math.cos(math.pi * (done * restarts % 1))) / 2,
    "polynomial": lambda done, _: (1 - done) ** 2,
}
"""The factor on the learning rates, by the fraction of steps done and the number of cycles."""


def build_lr_scheduler(optimizer: Optimizer, recipe: Recipe) -> LambdaLR:
    """Linear warm-up, times the recipe's schedule."""
    schedule = LR_SCHEDULES[recipe.lr_scheduler]

    def factor(step: int) -> float:
        warmup = min(1.0, (step + 1) / recipe.lr_warmup_steps) if recipe.lr_warmup_steps else 1.0
        return warmup * schedule(step / recipe.steps, recipe.lr_num_cycles)

    return LambdaLR(optimizer, factor)
