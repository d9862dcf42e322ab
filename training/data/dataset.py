"""The training set: the concept's pictures as latents, their captions, and the base's prior pictures."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from concepts.storage import atomic_write
from studio.models.base_model import Base, generate_latents
from studio.models.sampling_settings import SamplingSettings
from training.config.recipe import Recipe
from training.config.recipe_fields import CAPTIONS
from training.data.augmentation import Example, cuts
from training.data.random_token import RANDOM_TOKEN

_CONTEXTS = (
    "", " on the beach", " on a white background", " in the snow", " on a wooden table", " in the city",
    " on the grass", " on a blue background", " in the forest", " at night", " in front of a brick wall",
    " in the mountains", " next to a tree", " and a house", " on a green background", " in the desert",
)  # fmt: skip
_OTHER_THINGS = (
    "cat", "car", "dog", "tree", "vase", "house", "robot", "sunflower", "teddy bear", "cup", "horse", "chair",
    "bicycle", "duck", "cake", "guitar", "apple", "boat", "rabbit", "clock", "fish", "bird", "flower", "shoe", "hat",
    "ball", "book", "lamp", "table", "phone", "train", "plane", "bus", "truck", "banana", "orange", "lion", "tiger",
    "elephant", "monkey", "pig", "cow", "sheep", "fox", "owl", "penguin", "frog", "turtle", "face", "pizza", "bread",
    "cheese", "mushroom", "umbrella", "key", "bell", "drum", "camera", "rocket", "castle", "bridge", "mountain", "moon",
)  # fmt: skip
_PRIOR_SETTINGS = SamplingSettings(num_inference_steps=16, batch_size=8)


@dataclass(frozen=True)
class Sample:
    """A picture as latents (channels, h, w), with its caption and its loss mask, (1, h, w), if it has them."""

    latents: Tensor
    caption: str | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class TrainingSet:
    """A concept's pictures in all their variants, and prior pictures of its class and of other things."""

    concept: list[Sample]
    class_prior: list[Sample]
    other_prior: list[Sample]


def any_prompt(class_word: str, generator: torch.Generator, random_token_ratio: float = 0.0) -> str:
    """A random prompt without the concept: empty in a tenth of the cases, else of the random token with the given
    probability, the class word or another thing, half of them with a context, in any of CAPTIONS.
    """

    def chosen(values: Sequence[str]) -> str:
        return values[int(torch.randint(len(values), (1,), generator=generator))]

    kind = int(torch.randint(10, (1,), generator=generator))
    if kind == 0:
        return ""
    thing = chosen((class_word, chosen(_OTHER_THINGS), chosen(_OTHER_THINGS)))
    is_random = float(torch.rand((), generator=generator)) < random_token_ratio
    text = chosen(CAPTIONS).format(RANDOM_TOKEN if is_random else f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}")
    return text if kind < 6 else text + chosen(_CONTEXTS)


def class_prompts(class_word: str, count: int) -> list[str]:
    """Prompts of the class word in various contexts."""
    return [f"a photo of a {class_word}{_CONTEXTS[index % len(_CONTEXTS)]}" for index in range(count)]


def other_prompts(class_word: str, count: int) -> list[str]:
    """Prompts of things of other classes, in various contexts."""
    things = [thing for thing in _OTHER_THINGS if thing != class_word]
    return [
        f"a photo of a {things[index % len(things)]}{_CONTEXTS[index * 7 % len(_CONTEXTS)]}" for index in range(count)
    ]


def build_training_set(
    base: Base,
    examples: Sequence[Example],
    class_word: str,
    recipe: Recipe,
    cache: Path | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> TrainingSet:
    """Encodes the pictures, and generates the prior pictures or loads them from `cache`.

    `on_step` is called for every denoising step while prior pictures are generated.
    """
    of_class = class_prompts(class_word, recipe.num_class_images // 2)
    others = other_prompts(class_word, recipe.num_class_images - len(of_class))
    return TrainingSet(
        _encoded(base, examples, recipe),
        *(_prior(base, texts, recipe.prior_seed, cache, on_step) for texts in (of_class, others)),
    )


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


def prior_steps(num_class_images: int) -> int:
    """How often `build_training_set` calls `on_step` if no prior picture is cached."""
    first = num_class_images // 2
    batches = sum(-(-count // _PRIOR_SETTINGS.batch_size) for count in (first, num_class_images - first))
    return batches * _PRIOR_SETTINGS.num_inference_steps


def _prior(
    base: Base, prompts: Sequence[str], seed: int, cache: Path | None, on_step: Callable[[], None]
) -> list[Sample]:
    """The base's pictures of these prompts; each one's seed follows from its index and the recipe's prior_seed."""
    # On a CPU the last bits depend on the number of threads, so the cache key includes it.
    threads = torch.get_num_threads() if base.device.type == "cpu" else 0
    key = json.dumps([base.decomposition.fingerprint, list(prompts), repr(_PRIOR_SETTINGS), seed, threads])
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors" if cache else None
    latents = _read(path) if path else None
    if latents is None:
        seeds = range(seed * len(prompts), (seed + 1) * len(prompts))
        latents = generate_latents(base, prompts, seeds, _PRIOR_SETTINGS, on_step)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, save({"latents": latents.cpu().contiguous()}))
    return [Sample(latent, text) for latent, text in zip(latents.to(base.device), prompts, strict=True)]


def _read(path: Path) -> Tensor | None:
    """Cached latents; None where there are none or the file is truncated, so that they are generated again."""
    try:
        return load_file(path)["latents"]
    except (SafetensorError, OSError, KeyError):
        return None
