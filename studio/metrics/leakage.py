"""Leakage: how much concepts change the pictures of prompts that do not name them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from studio.metrics.clip import Scorer
from studio.models.base_model import Base, generate_images
from studio.models.sampling_settings import SamplingSettings

CONTEXTS = ("", " on the beach", " in the snow", " on a wooden table")
UNRELATED = (
    "a photo of a car", "a photo of a house on the grass", "a tree in the snow", "a clock on a blue background",
    "a cup on a wooden table", "a photo of an apple", "a boat on the beach", "a chair",
)  # fmt: skip
"""Prompts of unrelated things."""


@dataclass(frozen=True)
class Drift:
    """The change of pictures: the mean cosine distance of their embeddings, 0 to 2, and the mean absolute difference of
    their pixels, 0 to 1.
    """

    distance: float
    pixels: float


def drift(scorer: Scorer, before: Sequence[Image.Image], after: Sequence[Image.Image]) -> Drift:
    """The change between pictures, pair by pair."""
    cosines = (scorer.embed_pictures(before) * scorer.embed_pictures(after)).sum(1)
    levels = (
        np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean()
        for one, other in zip(before, after, strict=True)
    )
    return Drift((1 - cosines).clamp(min=0).mean().item(), float(np.mean(list(levels))) / 255)


def leak_prompts(class_words: Sequence[str]) -> dict[str, list[str]]:
    """Prompts that name no concept, by kind: the class words, each in several contexts, and unrelated things."""
    words = dict.fromkeys(class_words)
    return {
        "class_word": [f"a photo of a {word}{context}" for word in words for context in CONTEXTS],
        "unrelated": [prompt for prompt in UNRELATED if not words.keys() & set(prompt.split())],
    }


def leak(
    base: Base,
    adapted: Callable[[], AbstractContextManager[object]],
    scorer: Scorer,
    prompts: Mapping[str, Sequence[str]],
    settings: SamplingSettings | None = None,
) -> dict[str, Drift]:
    """The change of the base's pictures by the concepts, with the same seeds, for each kind of prompts.

    `adapted` returns a context manager that merges the concepts, such as `studio.composition.merge.applied`.
    """
    every = [prompt for group in prompts.values() for prompt in group]
    before = generate_images(base, every, range(len(every)), settings)
    with adapted():
        after = generate_images(base, every, range(len(every)), settings)
    drifts, first = {}, 0
    for kind, group in prompts.items():
        chosen = slice(first, first + len(group))
        drifts[kind] = drift(scorer, before[chosen], after[chosen])
        first += len(group)
    return drifts
