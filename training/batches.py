"""What a training step sees: all of it follows from the seed and the step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.dataset import CAPTIONS, TrainingSet, any_prompt
from training.losses import draw_noise, draw_timesteps
from training.task import Task


@dataclass(frozen=True)
class Batch:
    """Clean latents and noise (n, channels, h, w), timesteps (n,), and the prompts of the pictures.

    The first `own` of the n rows show the concept and name it; the others do not name it.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: list[str]
    own: int


def draw_batch(data: TrainingSet, task: Task, step: int, timesteps: int) -> Batch:
    """The batch of a step: the concept's own pictures first, then what does not name it; `timesteps` is the schedule's
    length.

    The others are prior pictures with their own prompts; in a quiet training all but the first of them are pictures of
    any kind, the concept's too, with any prompt.
    """
    recipe = task.recipe
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)

    def draw(count: int, out_of: int) -> Tensor:
        return torch.randint(out_of, (count,), generator=generator)

    prior = recipe.unnamed
    own = draw(recipe.batch - prior, len(data.concept))
    latents = [data.concept[own]]
    prompts = [CAPTIONS[i].format(task.token) for i in draw(len(own), len(CAPTIONS)).tolist()]
    pools = ((data.class_prior, prior - prior // 2), (data.other_prior, prior // 2))
    for (pool, texts), count in pools:
        chosen = draw(count, len(texts))
        latents.append(pool[chosen])
        prompts += [texts[i] for i in chosen.tolist()]
    clean = torch.cat(latents)
    if task.is_quiet:
        every = torch.cat([data.concept, data.class_prior[0], data.other_prior[0]])
        for row in range(len(own) + 1, recipe.batch):
            clean[row] = every[int(draw(1, len(every)))]
            prompts[row] = any_prompt(task.class_word, generator)
    noise = draw_noise(clean.shape, recipe.noise_offset, generator)
    # Shuffled, so that concept and prior pictures meet every part of the schedule.
    drawn = draw_timesteps(len(clean), timesteps, generator)[torch.randperm(len(clean), generator=generator)]
    return Batch(clean, noise.to(clean.device), drawn.to(clean.device), prompts, len(own))
