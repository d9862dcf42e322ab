"""What a concept is learned from: its pictures as latents, their captions, and the base's own prior pictures."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from concepts.storage import atomic_write
from studio.diffusion import Base, PaintSettings, paint_latents

CAPTIONS = ("a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "a rendering of {}", "{}")
"""How a concept's pictures are described; its token fills the place."""

_CONTEXTS = (
    "", " on the beach", " on a white background", " in the snow", " on a wooden table", " in the city",
    " on the grass", " on a blue background", " in the forest", " at night", " in front of a brick wall",
    " in the mountains", " next to a tree", " and a house", " on a green background", " in the desert",
)  # fmt: skip
_OTHER_THINGS = (
    "cat", "car", "dog", "tree", "vase", "house", "robot", "sunflower", "teddy bear", "cup", "horse", "chair",
    "bicycle", "duck", "cake", "guitar", "apple", "boat", "rabbit", "clock",
)  # fmt: skip
_PRIOR_SETTINGS = PaintSettings(steps=16, batch=8)


@dataclass(frozen=True)
class TrainingSet:
    """Latents (n, channels, h, w) of a concept's pictures, and prior latents with the prompts they show."""

    concept: Tensor
    class_prior: tuple[Tensor, list[str]]
    other_prior: tuple[Tensor, list[str]]


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """The picture's middle square at side x side pixels."""
    return ImageOps.fit(picture.convert("RGB"), (side, side), Image.Resampling.LANCZOS)


def class_prompts(class_word: str, count: int) -> list[str]:
    """Prompts of the class word alone, in various contexts."""
    return [f"a photo of a {class_word}{_CONTEXTS[index % len(_CONTEXTS)]}" for index in range(count)]


def other_prompts(class_word: str, count: int) -> list[str]:
    """Prompts of things of other classes, in various contexts."""
    things = [thing for thing in _OTHER_THINGS if thing != class_word]
    return [
        f"a photo of a {things[index % len(things)]}{_CONTEXTS[index * 7 % len(_CONTEXTS)]}" for index in range(count)
    ]


def build_training_set(
    base: Base,
    pictures: Sequence[Image.Image],
    class_word: str,
    prior_pictures: int,
    flip: bool = True,
    cache: Path | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> TrainingSet:
    """Encodes the pictures once, and paints the prior pictures or finds them in `cache`.

    `on_step` is called for every denoising step while prior pictures are painted.
    """
    squares = [fitted(picture, base.side) for picture in pictures]
    mirrored = [ImageOps.mirror(square) for square in squares] if flip else []
    of_class = class_prompts(class_word, prior_pictures // 2)
    others = other_prompts(class_word, prior_pictures - len(of_class))
    return TrainingSet(
        base.encode_pictures([*squares, *mirrored]),
        (_prior(base, of_class, cache, on_step), of_class),
        (_prior(base, others, cache, on_step), others),
    )


def prior_steps(prior_pictures: int) -> int:
    """How often `build_training_set` calls `on_step` when no prior picture is in the cache."""
    first = prior_pictures // 2
    batches = sum(-(-count // _PRIOR_SETTINGS.batch) for count in (first, prior_pictures - first))
    return batches * _PRIOR_SETTINGS.steps


def _prior(base: Base, prompts: Sequence[str], cache: Path | None, on_step: Callable[[], None]) -> Tensor:
    """The base's pictures of these prompts as latents; the seed of each is its place in the list."""
    # On a CPU the number of threads decides the last bits, and a training must not depend on who painted first.
    threads = torch.get_num_threads() if base.device.type == "cpu" else 0
    key = json.dumps([base.decomposition.fingerprint, list(prompts), repr(_PRIOR_SETTINGS), threads])
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors" if cache else None
    if path and (stored := _read(path)) is not None:
        return stored.to(base.device)
    latents = paint_latents(base, prompts, range(len(prompts)), _PRIOR_SETTINGS, on_step)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, save({"latents": latents.cpu().contiguous()}))
    return latents


def _read(path: Path) -> Tensor | None:
    """Stored latents; None where there are none or the file is torn, so that they are painted again."""
    try:
        return load_file(path)["latents"]
    except (SafetensorError, OSError, KeyError):
        return None
