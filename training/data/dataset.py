"""The training set: the concept's pictures as latents, their captions, and the base's class images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio.models.base_model import Base
from training.config.recipe import Recipe
from training.data.augmentation import Example, cuts
from training.data.class_images import class_latents, class_prompts, other_prompts


@dataclass(frozen=True)
class Sample:
    """A picture as latents (channels, h, w), with its caption and its loss mask, (1, h, w), if it has them."""

    latents: Tensor
    caption: str | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class TrainingSet:
    """A concept's pictures in all their variants, and class images of its class and of other things."""

    concept: list[Sample]
    class_prior: list[Sample]
    other_prior: list[Sample]


def build_training_set(
    base: Base,
    examples: Sequence[Example],
    class_word: str,
    recipe: Recipe,
    cache: Path | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> TrainingSet:
    """Encodes the pictures, and generates the class images or loads them from `cache`.

    `on_step` is called for every denoising step while class images are generated.
    """
    of_class = class_prompts(class_word, recipe.num_class_images // 2)
    others = other_prompts(class_word, recipe.num_class_images - len(of_class))
    return TrainingSet(
        _encoded(base, examples, recipe),
        *(_prior(base, texts, recipe.prior_seed, cache, on_step) for texts in (of_class, others)),
    )


def _prior(
    base: Base, prompts: Sequence[str], seed: int, cache: Path | None, on_step: Callable[[], None]
) -> list[Sample]:
    latents = class_latents(base, prompts, seed, cache, on_step)
    return [Sample(latent, text) for latent, text in zip(latents, prompts, strict=True)]


def _encoded(base: Base, examples: Sequence[Example], recipe: Recipe) -> list[Sample]:
    """Every variant of the concept's pictures as latents; pictures of one size are encoded together."""
    vae_factor = base.pipeline.vae_scale_factor
    step = vae_factor * 2 ** (len(base.pipeline.unet.config.block_out_channels) - 1)
    variants = [(examples[index], cut) for index, cut in cuts([e.picture for e in examples], recipe, base.side, step)]
    samples: dict[int, Sample] = {}
    for size in dict.fromkeys(cut.size for _, cut in variants):
        chosen = [number for number, (_, cut) in enumerate(variants) if cut.size == size]
        latents = base.encode_pictures([variants[n][1].of(variants[n][0].picture.convert("RGB")) for n in chosen])
        for number, latent in zip(chosen, latents, strict=True):
            example, cut = variants[number]
            mask = _mask(cut.of(example.mask), vae_factor, base) if recipe.masked_loss and example.mask else None
            samples[number] = Sample(latent, example.caption, mask)
    return [samples[number] for number in range(len(variants))]


def _mask(mask: Image.Image, factor: int, base: Base) -> Tensor:
    """A grey picture as loss weights of the latents' positions, (1, h, w)."""
    width, height = mask.width // factor, mask.height // factor
    levels = np.asarray(mask.convert("L").resize((width, height), Image.Resampling.BOX), dtype=np.float32)
    return torch.from_numpy(levels / 255)[None].to(base.device)
