"""The timed operations: a training step of a base, and one adapted layer of any size, with random inputs."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from studio.adapters import ADAPTERS, Adapter, SiteContext
from studio.adapters.injection import inject
from studio.layers.target_modules import Site
from studio.models.base_model import Base
from training.config.recipe_resolution import parameter_groups
from training.data.class_images import class_prompts, other_prompts
from training.data.dataset import Sample, TrainingSet
from training.engine.distributed import ProcessGroup
from training.engine.step_losses import LossComputer
from training.engine.train_state import TrainState
from training.engine.training_task import Task

TOKENS = 1024
NO_LAYER = {
    "ada_link": "it adapts embeddings", "layer_norm": "it adapts norms",
    "textual_inversion": "it trains the token alone", "prompt_tuning": "it trains the token alone",
}  # fmt: skip
"""Methods that adapt neither a Linear nor a Conv2d, with what they do instead."""


def random_set(base: Base, side: int) -> TrainingSet:
    """A training set of random latents of this side."""
    generator = torch.Generator().manual_seed(0)
    shape = (base.pipeline.unet.config.in_channels, side, side)

    def samples(prompts: list[str] | list[None]) -> list[Sample]:
        return [Sample(torch.randn(*shape, generator=generator).to(base.device), text) for text in prompts]

    return TrainingSet(samples([None] * 5), samples(class_prompts("cat", 8)), samples(other_prompts("cat", 8)))


def step_of_training(task: Task, data: TrainingSet, adapters: Mapping[str, Adapter]) -> Callable[[], None]:
    """A training step with these adapters; the base must be ready for the task."""
    groups = parameter_groups(task.base, task.sites, adapters, task.recipe, task.vectors)
    train_state = TrainState(adapters, task.vectors, groups, task.recipe, torch.get_num_threads())
    loss_computer = LossComputer(task, data, train_state, ProcessGroup())
    return lambda: train_state.optimizer_step(loss_computer.losses())


def layer(out_features: int, in_features: int) -> nn.Sequential:
    """A model of one frozen layer with fixed random weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(in_features, out_features, bias=False)).requires_grad_(False)


def adapted_layer(name: str, shape: tuple[int, int], rank: int | None = None) -> nn.Module:
    """The layer with an adapter of this rank, or of its default size."""
    model, method = layer(*shape), ADAPTERS[name]
    config = method.Config()
    config = replace(config, rank=rank) if rank and "rank" in asdict(config) else config
    frozen: Any = model[0]
    site = Site("unet.0", "unet", frozen, model, "0")
    inject({site.name: site}, {site.name: method(site.weight, config, SiteContext(name=site.name))})
    return model


def step_of(model: nn.Module, in_features: int) -> Callable[[], None]:
    """Forward and backward of 1,024 tokens from a given gradient to that of the input, as inside a model."""
    x = torch.randn(1, TOKENS, in_features, requires_grad=True)
    gradient = torch.randn_like(model(x))

    def step() -> None:
        model(x).backward(gradient)
        model.zero_grad()
        x.grad = None

    return step
