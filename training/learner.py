"""What changes while a concept is learned: parameters, their optimizer, and the record of the steps."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from studio.adapters import Adapter
from studio.errors import StudioError
from studio.injection import method_named
from training.recipe import Recipe

WARMUP = 10
_SHOWN = 3
"""How many of the last losses an error tells."""


class Diverged(StudioError):  # noqa: N818
    """A loss or a gradient was not a number; the parameters are still those of the step before."""


class Learner:
    """Adapters and a token, (n, d) in each part that reads it, on their way down the loss: AdamW, a warm-up, and a
    linear decay.

    `losses` has the denoising loss of every step that was taken.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        token: Mapping[str, nn.Parameter],
        groups: list[dict[str, Any]],
        recipe: Recipe,
        threads: int,
    ):
        self.adapters, self.token, self.recipe, self.threads = adapters, token, recipe, threads
        self.losses: list[float] = []
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._optimizer = torch.optim.AdamW(groups)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: _pace(step, recipe.steps))

    @property
    def step(self) -> int:
        """How many steps were taken."""
        return len(self.losses)

    def descend(self, loss: Tensor, unrest: Tensor | float = 0.0) -> None:
        """One step down the gradient of a batch's mean loss, and of what silence adds; Diverged, and no step, where
        one is not a number.
        """
        (loss + self.recipe.silence * unrest + self._penalty()).backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, 1.0)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            self._optimizer.zero_grad()
            raise self._diverged()
        self._optimizer.step()
        self._schedule.step()
        method_named(self.recipe.adapter).after_step(self.adapters, self.step + 1, self.recipe.steps)
        self._optimizer.zero_grad()
        self.losses.append(value)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "adapters": {site: adapter.learning_state() for site, adapter in self.adapters.items()},
            "token": dict(self.token),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "losses": self.losses,
            "threads": self.threads,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Takes a state back, so that the next step is the one that would have followed."""
        for site, adapter in self.adapters.items():
            adapter.resume(state["adapters"][site])
        with torch.no_grad():
            for part, vectors in self.token.items():
                vectors.copy_(state["token"][part])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.losses = list(state["losses"])

    def _penalty(self) -> Tensor | float:
        """What the method adds to the loss, as a mean over the adapters."""
        penalties = [penalty for adapter in self.adapters.values() if (penalty := adapter.penalty()) is not None]
        return torch.stack(penalties).mean() if penalties else 0.0

    def _diverged(self) -> Diverged:
        last = ", ".join(f"{loss:.4g}" for loss in self.losses[-_SHOWN:])
        seen = f" The losses before were {last}." if last else ""
        return Diverged(
            f"The loss is not a number at step {self.step + 1}: train with lower learning rates, as by "
            f"--set unet_rate=5e-4 --set text_rate=1e-4 --set token_rate=1e-3.{seen}"
        )


def _pace(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARMUP) * (1 - step / steps)
