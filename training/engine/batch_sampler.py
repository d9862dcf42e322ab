"""Samples the batches of training steps, deterministically by seed and step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.config.recipe import Recipe
from training.data.captions import caption_of, templates_of
from training.data.class_images import any_prompt
from training.data.dataset import Sample, TrainingSet
from training.engine.denoising_loss import draw_noise, draw_timesteps, multires_noise
from training.engine.distributed import ProcessGroup
from training.engine.training_task import Task


@dataclass(frozen=True)
class Batch:
    """Pictures of one shape: clean latents and noise (n, channels, h, w), timesteps (n,), prompts, and, with masks,
    loss weights (n, 1, h, w).

    `share` is this batch's fraction of the step's pictures. The prompts of the first `num_instance` of the n name the
    concept; in the whole step those of `total_instance` do so, and those of `total_prior` do not.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: list[str]
    weights: Tensor | None
    share: float
    num_instance: int
    total_instance: int
    total_prior: int


def draw_batches(
    data: TrainingSet, task: Task, number: int, timesteps: int, process_group: ProcessGroup
) -> list[Batch]:
    """This process's part of the `number`th batch, by shape. `timesteps` is the noise schedule's length.

    Prompts without the concept are those of class images; with the preservation loss all but the first of these
    samples are random pictures, also of the concept, with random prompts. Only every `preservation_interval`-th batch
    has them then.
    """
    recipe = task.recipe
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + number)

    def draw(count: int, out_of: int) -> list[int]:
        return torch.randint(max(out_of, 1), (count,), generator=generator).tolist()

    prior = recipe.num_prior_in_batch
    instance = [data.concept[i] for i in draw(recipe.batch_size - prior, len(data.concept))]
    if task.preserves_outputs and number % recipe.preservation_interval:
        prior = 0
    every_template = templates_of(recipe, task.class_word)
    templates = [every_template[i] for i in draw(len(instance), len(every_template))]
    prompts = [
        caption_of(sample, template, task.token, task.class_word, recipe, generator)
        for sample, template in zip(instance, templates, strict=True)
    ]
    samples = list(instance)
    for pool, count in ((data.class_prior, prior - prior // 2), (data.other_prior, prior // 2)):
        chosen = [pool[i] for i in draw(count, len(pool))]
        samples += chosen
        prompts += [sample.caption or "" for sample in chosen]
    if task.preserves_outputs:
        every = [*data.concept, *data.class_prior, *data.other_prior]
        for row in range(len(instance) + 1, len(samples)):
            samples[row] = every[draw(1, len(every))[0]]
            prompts[row] = any_prompt(task.class_word, generator, recipe.random_token_ratio)
    noises = _noises(samples, recipe, generator)
    # Shuffled, so that concept and class images get timesteps of the whole schedule.
    sampled = draw_timesteps(len(samples), timesteps, generator)[torch.randperm(len(samples), generator=generator)]
    weights = [_weight(sample, recipe) for sample in samples]
    masked = recipe.masked_loss and any(sample.mask is not None for sample in samples)
    local = process_group.shard(range(len(samples)))
    return [
        Batch(
            torch.stack([samples[i].latents for i in group]),
            torch.stack([noises[i] for i in group]).to(samples[0].latents.device),
            sampled[group].to(samples[0].latents.device),
            [prompts[i] for i in group],
            torch.stack([weights[i] for i in group]) if masked else None,
            len(group) / len(samples),
            sum(i < len(instance) for i in group),
            len(instance),
            prior,
        )
        for group in _by_shape(samples, local)
    ]


def _by_shape(samples: Sequence[Sample], indices: Sequence[int]) -> list[list[int]]:
    """The indices in groups whose latents have one shape."""
    groups: dict[torch.Size, list[int]] = {}
    for index in indices:
        groups.setdefault(samples[index].latents.shape, []).append(index)
    return list(groups.values())


def _noises(samples: Sequence[Sample], recipe: Recipe, generator: torch.Generator) -> dict[int, Tensor]:
    """Unit noise of each sample's shape, by its index; with an offset or coarser noise by the recipe."""
    noises: dict[int, Tensor] = {}
    for group in _by_shape(samples, range(len(samples))):
        shape = torch.Size((len(group), *samples[group[0]].latents.shape))
        drawn = draw_noise(shape, recipe.noise_offset, generator)
        if recipe.multires_noise_iterations:
            iterations, discount = recipe.multires_noise_iterations, recipe.multires_noise_discount
            drawn = multires_noise(drawn, iterations, discount, generator)
        noises.update(zip(group, drawn, strict=True))
    return noises


def _weight(sample: Sample, recipe: Recipe) -> Tensor:
    """The loss weight of each position of the latents, (1, h, w)."""
    if sample.mask is None:
        return torch.ones_like(sample.latents[:1])
    return recipe.unmasked_weight + (1 - recipe.unmasked_weight) * sample.mask
