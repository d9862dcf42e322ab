"""What a training step sees: all of it follows from the seed and the step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.config.recipe import Recipe
from training.data.captions import caption_of
from training.data.dataset import Sample, TrainingSet, any_prompt
from training.engine.distributed import ProcessGroup
from training.engine.losses import draw_noise, draw_timesteps
from training.engine.task import Task


@dataclass(frozen=True)
class Batch:
    """Pictures of one shape: clean latents and noise (n, channels, h, w), timesteps (n,), prompts, and, where there
    are masks, how much each place counts, (n, 1, h, w).

    `share` is how much of the whole step this is. The first `own` of the n name the concept; in the whole step
    `all_own` do so, and `all_others` do not.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: list[str]
    weights: Tensor | None
    share: float
    own: int
    all_own: int
    all_others: int


def draw_batches(
    data: TrainingSet, task: Task, number: int, timesteps: int, process_group: ProcessGroup
) -> list[Batch]:
    """The `number`th batch of a training, by shape: this process's part of it. `timesteps` is the schedule's length.

    What does not name the concept are prior pictures with their own prompts; in a quiet training all but the first of
    them are pictures of any kind, the concept's too, with any prompt.
    """
    recipe = task.recipe
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + number)

    def draw(count: int, out_of: int) -> list[int]:
        return torch.randint(out_of, (count,), generator=generator).tolist()

    prior = recipe.num_prior_in_batch
    own = [data.concept[i] for i in draw(recipe.batch_size - prior, len(data.concept))]
    templates = [recipe.templates[i] for i in draw(len(own), len(recipe.templates))]
    prompts = [
        caption_of(sample, template, task.token, task.class_word, recipe, generator)
        for sample, template in zip(own, templates, strict=True)
    ]
    samples = list(own)
    for pool, count in ((data.class_prior, prior - prior // 2), (data.other_prior, prior // 2)):
        chosen = [pool[i] for i in draw(count, len(pool))]
        samples += chosen
        prompts += [sample.caption or "" for sample in chosen]
    if task.preserves_outputs:
        every = [*data.concept, *data.class_prior, *data.other_prior]
        for row in range(len(own) + 1, len(samples)):
            samples[row] = every[draw(1, len(every))[0]]
            prompts[row] = any_prompt(task.class_word, generator, recipe.random_token_ratio)
    noises = _noises(samples, recipe.noise_offset, generator)
    # Shuffled, so that concept and prior pictures meet every part of the schedule.
    drawn = draw_timesteps(len(samples), timesteps, generator)[torch.randperm(len(samples), generator=generator)]
    weights = [_weight(sample, recipe) for sample in samples]
    mine = process_group.shard(range(len(samples)))
    return [
        Batch(
            torch.stack([samples[i].latents for i in group]),
            torch.stack([noises[i] for i in group]).to(samples[0].latents.device),
            drawn[group].to(samples[0].latents.device),
            [prompts[i] for i in group],
            torch.stack([weights[i] for i in group]) if recipe.masked_loss else None,
            len(group) / len(samples),
            sum(i < len(own) for i in group),
            len(own),
            prior,
        )
        for group in _by_shape(samples, mine)
    ]


def _by_shape(samples: Sequence[Sample], indices: Sequence[int]) -> list[list[int]]:
    """The indices in groups whose latents have one shape."""
    groups: dict[torch.Size, list[int]] = {}
    for index in indices:
        groups.setdefault(samples[index].latents.shape, []).append(index)
    return list(groups.values())


def _noises(samples: Sequence[Sample], offset: float, generator: torch.Generator) -> dict[int, Tensor]:
    """Unit noise of each sample's shape, by its index."""
    noises: dict[int, Tensor] = {}
    for group in _by_shape(samples, range(len(samples))):
        shape = torch.Size((len(group), *samples[group[0]].latents.shape))
        noises.update(zip(group, draw_noise(shape, offset, generator), strict=True))
    return noises


def _weight(sample: Sample, recipe: Recipe) -> Tensor:
    """How much each place of the latents counts, (1, h, w)."""
    if sample.mask is None:
        return torch.ones_like(sample.latents[:1])
    return recipe.unmasked_weight + (1 - recipe.unmasked_weight) * sample.mask
