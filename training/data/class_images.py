"""Class images: the base's own pictures of the class word and of other things, for prior preservation (Ruiz et al.,
2023, "DreamBooth", section 3.2).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from concepts.storage import atomic_write
from studio.models.base_model import Base, generate_latents
from studio.models.families import OTHER, Family
from studio.models.sampling_settings import SamplingSettings
from training.config.caption_templates import CAPTIONS, is_style
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
_SETTINGS = SamplingSettings(num_inference_steps=16, batch_size=8)
_SAMPLE_BATCH_SIZE = 4
"""The batch size of class images of Stable Diffusion (diffusers' sample_batch_size)."""


def any_prompt(class_word: str, generator: torch.Generator, random_token_ratio: float = 0.0) -> str:
    """A random prompt without the concept: empty in a tenth of the cases, else of the random token with the given
    probability, the class word or another thing, half of them with a context, in any of CAPTIONS.
    """

    def chosen(values: Sequence[str]) -> str:
        return values[int(torch.randint(len(values), (1,), generator=generator))]

    kind = int(torch.randint(10, (1,), generator=generator))
    if kind == 0:
        return ""
    own = chosen(_OTHER_THINGS) if is_style(class_word) else class_word
    thing = chosen((own, chosen(_OTHER_THINGS), chosen(_OTHER_THINGS)))
    is_random = float(torch.rand((), generator=generator)) < random_token_ratio
    text = chosen(CAPTIONS).format(RANDOM_TOKEN if is_random else f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}")
    return text if kind < 6 else text + chosen(_CONTEXTS)


def class_prompts(class_word: str, count: int) -> list[str]:
    """Prompts of the class word in various contexts."""
    return [f"{plain_prompt(class_word)}{_CONTEXTS[index % len(_CONTEXTS)]}" for index in range(count)]


def plain_prompt(class_word: str) -> str:
    """The prompt of the class word alone; for a style, of any painting."""
    return "a painting" if is_style(class_word) else f"a photo of a {class_word}"


def other_prompts(class_word: str, count: int) -> list[str]:
    """Prompts of things of other classes, in various contexts."""
    things = [thing for thing in _OTHER_THINGS if thing != class_word]
    return [
        f"a photo of a {things[index % len(things)]}{_CONTEXTS[index * 7 % len(_CONTEXTS)]}" for index in range(count)
    ]


def settings_of(family: Family) -> SamplingSettings:
    """How class images are sampled on a base of this family: as its other images, on toybox in fewer steps."""
    if family.title == OTHER.title:
        return _SETTINGS
    return SamplingSettings(batch_size=_SAMPLE_BATCH_SIZE).with_defaults(family)


def prior_steps(family: Family, *counts: int) -> int:
    """How often `class_latents` calls `on_step` for so many prompts, each time that none is cached."""
    settings = settings_of(family)
    return sum(-(-count // settings.batch_size) for count in counts) * settings.num_inference_steps


def class_latents(
    base: Base, prompts: Sequence[str], seed: int, cache: Path | None, on_step: Callable[[], None]
) -> Tensor:
    """The base's pictures of these prompts as latents, (n, channels, h, w), generated or loaded from `cache`.

    Each one's seed follows from its index and the recipe's prior_seed.
    """
    # On a CPU the last bits depend on the number of threads, so the cache key includes it.
    threads = torch.get_num_threads() if base.device.type == "cpu" else 0
    settings = settings_of(base.family)
    key = json.dumps([base.decomposition.fingerprint, list(prompts), repr(settings), seed, threads])
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors" if cache else None
    latents = _read(path) if path else None
    if latents is None:
        seeds = range(seed * len(prompts), (seed + 1) * len(prompts))
        latents = generate_latents(base, prompts, seeds, settings, on_step)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, save({"latents": latents.cpu().contiguous()}))
    return latents.to(base.device)


def _read(path: Path) -> Tensor | None:
    """Cached latents; None where there are none or the file is truncated, so that they are generated again."""
    try:
        return load_file(path)["latents"]
    except (SafetensorError, OSError, KeyError):
        return None
