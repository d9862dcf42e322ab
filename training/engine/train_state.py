"""The training state: parameters, optimizer, learning rate scheduler, EMA, and the metrics of the steps."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from time import perf_counter
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.registry import method_named
from training.config.recipe import Recipe
from training.engine.distributed import ProcessGroup
from training.engine.optimizers import Groups, build_lr_scheduler, build_optimizer

_SHOWN = 3
"""How many of the last losses an error shows."""


class DivergenceError(StudioError):
    """A loss or a gradient was not finite; the parameters are still those of the previous step."""


class TrainState:
    """Adapters and a token, (n, d) by text encoder, with the recipe's optimizer and learning rate scheduler.

    `losses` has the total loss of every step, `rates` each part's learning rates, `alignments` the image alignment of
    validation images by step, `validation_losses` the loss on pictures that are not trained on, and `seconds` the
    duration of the steps.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        token: Mapping[str, nn.Parameter],
        groups: Groups,
        recipe: Recipe,
        threads: int,
        process_group: ProcessGroup | None = None,
    ):
        self.adapters, self.token, self.recipe, self.threads = adapters, token, recipe, threads
        self.losses: list[float] = []
        self.rates: dict[str, list[float]] = {group["part"]: [] for group in groups}
        self.alignments: list[tuple[int, float]] = []
        self.validation_losses: list[tuple[int, float]] = []
        self.seconds = 0.0
        self._process_group = process_group or ProcessGroup()
        self._best: dict[str, Any] | None = None
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._optimizer = build_optimizer(groups, recipe, self.device)
        self._schedule = build_lr_scheduler(self._optimizer, recipe)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.mixed_precision == "float16")
        self._average = None if recipe.ema_decay is None else EMAModel(self._parameters, decay=recipe.ema_decay)

    @property
    def step(self) -> int:
        """The number of completed steps."""
        return len(self.losses)

    @property
    def ended(self) -> bool:
        """Whether all steps are done, or early stopping applies."""
        scores, patience = [score for _, score in self.alignments], self.recipe.early_stopping_patience
        stale = patience is not None and len(scores) > patience and max(scores[:-patience]) >= max(scores[-patience:])
        return self.step >= self.recipe.steps or stale

    @property
    def token_is_trained(self) -> bool:
        """Whether the next step trains the token."""
        last = self.recipe.freeze_token_after
        return self.recipe.train_token and (last is None or self.step < last)

    def optimizer_step(self, losses: Iterable[Tensor]) -> None:
        """One optimizer step on the sum of these losses; DivergenceError, and no step, where one is not finite."""
        began = perf_counter()
        for vectors in self.token.values():
            vectors.requires_grad_(self.token_is_trained)
        loss = self._process_group.all_reduce(self._backward(losses), [p for p in self._parameters if p.requires_grad])
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self.recipe.max_grad_norm or math.inf)
        value = loss.item()
        if not (math.isfinite(value) and (self._scaler.is_enabled() or math.isfinite(norm.item()))):
            self._optimizer.zero_grad()
            raise self._diverged()
        self._record_learning_rates()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()
        method_named(self.recipe.adapter).after_step(self.adapters, self.step + 1, self.recipe.steps)
        self._optimizer.zero_grad()
        if self._average:
            self._average.step(self._parameters)
        self.losses.append(value)
        self.seconds += perf_counter() - began

    def record_score(self, alignment: float) -> None:
        """Records the image alignment of validation images; with `keep_best` the best state is kept."""
        best = max((score for _, score in self.alignments), default=-math.inf)
        self.alignments.append((self.step, alignment))
        if self.recipe.keep_best and alignment > best:
            with self.result():
                self._best = deepcopy(self._parameter_state())

    @contextmanager
    def result(self) -> Iterator[None]:
        """While open, adapters and token are the current result: the EMA, where there is one."""
        if self._average is None:
            yield
            return
        self._average.store(self._parameters)
        self._average.copy_to(self._parameters)
        try:
            yield
        finally:
            self._average.restore(self._parameters)

    def finish(self) -> None:
        """Sets adapters and token to the result: the best state, the EMA, or the last state."""
        if self._best is not None:
            self._load_parameter_state(self._best)
        elif self._average is not None:
            self._average.copy_to(self._parameters)

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint: everything that the next step depends on."""
        return {
            **self._parameter_state(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average and self._average.state_dict(),
            "best": self._best,
            "losses": self.losses,
            "rates": self.rates,
            "alignments": self.alignments,
            "validation_losses": self.validation_losses,
            "seconds": self.seconds,
            "threads": self.threads,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Loads a state, so that training continues as if it had not been interrupted."""
        self._load_parameter_state(state)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average:
            self._average.load_state_dict(state["average"])
            self._average.to(self.device)
        self._best, self.seconds = state["best"], state["seconds"]
        self.losses, self.rates, self.alignments = state["losses"], state["rates"], state["alignments"]
        self.validation_losses = state["validation_losses"]

    def _backward(self, losses: Iterable[Tensor]) -> Tensor:
        """Accumulates the gradients of the losses and of the method's penalties; returns the losses' sum."""
        total = torch.zeros((), device=self.device)
        for loss in losses:
            self._scaler.scale(loss).backward()
            total += loss.detach()
        penalties = [penalty for adapter in self.adapters.values() if (penalty := adapter.penalty()) is not None]
        if penalties:
            self._scaler.scale(torch.stack(penalties).mean() / self._process_group.size).backward()
        return total

    def _record_learning_rates(self) -> None:
        for group in self._optimizer.param_groups:
            rates = self.rates[group["part"]]
            if len(rates) == self.step:
                trained = group["part"] != "token" or self.token_is_trained
                rates.append(group["lr"] * group.get("d", 1.0) if trained else 0.0)

    def _parameter_state(self) -> dict[str, Any]:
        adapters = {site: adapter.training_state() for site, adapter in self.adapters.items()}
        return {"adapters": adapters, "token": {part: vectors.detach() for part, vectors in self.token.items()}}

    @property
    def device(self) -> torch.device:
        """The token's device."""
        return next(iter(self.token.values())).device

    def _load_parameter_state(self, state: dict[str, Any]) -> None:
        for site, adapter in self.adapters.items():
            adapter.resume(state["adapters"][site])
        with torch.no_grad():
            for part, vectors in self.token.items():
                vectors.copy_(state["token"][part])

    def _diverged(self) -> DivergenceError:
        last = ", ".join(f"{loss:.4g}" for loss in self.losses[-_SHOWN:])
        seen = f" The losses before were {last}." if last else ""
        return DivergenceError(
            f"The loss is NaN or infinite at step {self.step + 1}. Lower unet_lr, text_encoder_lr and token_lr, for "
            f"example to a fifth, with --set or in the recipe.{seen}"
        )
