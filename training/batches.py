"""What a training step sees: all of it follows from the seed and the step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.dataset import CAPTIONS, TrainingSet
from training.losses import draw_noise, draw_timesteps
from training.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """Clean latents and noise (n, channels, h, w), timesteps (n,), and the prompts of the pictures."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: list[str]


def draw_batch(data: TrainingSet, token: str, recipe: Recipe, step: int, timesteps: int) -> Batch:
    """The batch of a step: the concept's own pictures first, then prior ones; `timesteps` is the schedule's length."""
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)

    def draw(count: int, out_of: int) -> Tensor:
        return torch.randint(out_of, (count,), generator=generator)

    prior = round(recipe.batch * recipe.prior_share)
    own = draw(recipe.batch - prior, len(data.concept))
    latents = [data.concept[own]]
    prompts = [CAPTIONS[i].format(token) for i in draw(len(own), len(CAPTIONS)).tolist()]
    for (pool, texts), count in ((data.class_prior, prior - prior // 2), (data.other_prior, prior // 2)):
        chosen = draw(count, len(texts))
        latents.append(pool[chosen])
        prompts += [texts[i] for i in chosen.tolist()]
    clean = torch.cat(latents)
    noise = draw_noise(clean.shape, recipe.noise_offset, generator)
    # Shuffled, so that concept and prior pictures meet every part of the schedule.
    drawn = draw_timesteps(len(clean), timesteps, generator)[torch.randperm(len(clean), generator=generator)]
    return Batch(clean, noise.to(clean.device), drawn.to(clean.device), prompts)
