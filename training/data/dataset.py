"""The training set: the concept's pictures as latents, their captions, and the base's class images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from concepts.errors import StudioError
from concepts.images.import_files import read_caption
from concepts.images.picture_files import picture_files
from concepts.images.upload_checks import read_picture
from studio.models.base_model import Base
from training.config.caption_templates import is_style
from training.config.recipe import Recipe
from training.data.augmentation import Example, cuts
from training.data.class_images import class_latents, class_prompts, other_prompts, plain_prompt


@dataclass(frozen=True)
class Sample:
    """A picture as latents (channels, h, w), with its caption and its loss mask, (1, h, w), if it has them."""

    latents: Tensor
    caption: str | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class TrainingSet:
    """A concept's pictures in all their variants, class images of its class and of other things, and pictures of the
    concept that are not trained on.
    """

    concept: list[Sample]
    class_prior: list[Sample]
    other_prior: list[Sample]
    validation: Sequence[Sample] = ()


def build_training_set(
    base: Base,
    examples: Sequence[Example],
    class_word: str,
    recipe: Recipe,
    cache: Path | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> TrainingSet:
    """Encodes the pictures, the last ones for validation if the recipe says so, and generates the class images or loads
    them from `cache`, or those of the class from the recipe's `class_data_dir`. A picture with repeats is in the set so
    many times.

    `on_step` is called for every denoising step while class images are generated. Raises StudioError for a folder of
    class images that cannot be used, and where no picture is left to train on.
    """
    kept = len(examples) - recipe.num_validation_pictures
    if kept < 1:
        raise StudioError(
            f"num_validation_pictures is {recipe.num_validation_pictures}, and there are {len(examples)} pictures, so "
            "none is left to train on. Choose fewer."
        )
    given = recipe.class_data_dir and class_examples(Path(recipe.class_data_dir), class_word)
    of_class, others = prior_prompts(recipe, class_word)
    return TrainingSet(
        _encoded(base, examples[:kept], recipe),
        _encoded(base, given, recipe) if given else _prior(base, of_class, recipe.prior_seed, cache, on_step),
        _prior(base, others, recipe.prior_seed, cache, on_step),
        _encoded(base, examples[kept:], recipe) if examples[kept:] else (),
    )


def prior_prompts(recipe: Recipe, class_word: str) -> tuple[list[str], list[str]]:
    """The prompts of the class images that are generated, of the class and of other things; all of the class where a
    batch has one without the concept.
    """
    count = recipe.num_class_images // (2 if recipe.num_prior_in_batch > 1 or recipe.output_preservation_weight else 1)
    if is_style(class_word):  # which has no class of things
        prompts = other_prompts(class_word, recipe.num_class_images)
        return ([] if recipe.class_data_dir else prompts[:count]), prompts[count:]
    of_class = [] if recipe.class_data_dir else class_prompts(class_word, count)
    return of_class, other_prompts(class_word, recipe.num_class_images - count)


def class_examples(folder: Path, class_word: str) -> list[Example]:
    """The class images in a folder, with the captions in the text files beside them, else "a photo of a CLASS".

    Raises StudioError for a folder that does not exist or has no pictures, and for a picture that cannot be read.
    """
    if not folder.is_dir():
        raise StudioError(f"class_data_dir {folder} is no folder. Give a folder of class images, or leave it out.")
    files = picture_files([folder])
    return [Example(read_picture(file, str(file)), read_caption(file) or plain_prompt(class_word)) for file in files]


def _prior(
    base: Base, prompts: Sequence[str], seed: int, cache: Path | None, on_step: Callable[[], None]
) -> list[Sample]:
    latents = class_latents(base, prompts, seed, cache, on_step) if prompts else ()
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
    return [samples[number] for number, (example, _) in enumerate(variants) for _ in range(example.repeats)]


def _mask(mask: Image.Image, factor: int, base: Base) -> Tensor:
    """A grey picture as loss weights of the latents' positions, (1, h, w)."""
    width, height = mask.width // factor, mask.height // factor
    levels = np.asarray(mask.convert("L").resize((width, height), Image.Resampling.BOX), dtype=np.float32)
    return torch.from_numpy(levels / 255)[None].to(base.device)
