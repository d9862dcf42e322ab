"""Training pictures and their augmentation: centre crops, aspect ratio buckets, flips and random crops."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps

from training.config.recipe import Recipe

SMALLEST_CROP = 0.75
"""The minimum size of a random crop, as a fraction of the largest."""
MAX_ASPECT_RATIO = 2.0
"""The maximum ratio of a bucket's sides."""


@dataclass(frozen=True)
class Example:
    """A picture of the concept, with its caption and its loss mask (a grey picture of its size), if it has them; and
    how often it counts.
    """

    picture: Image.Image
    caption: str | None = None
    mask: Image.Image | None = None
    repeats: int = 1


@dataclass(frozen=True)
class Crop:
    """One variant of a picture: the crop to a box (left, top, right, bottom), resized, optionally mirrored."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    mirrored: bool

    def of(self, picture: Image.Image) -> Image.Image:
        """The cropped, resized picture."""
        shown = picture.resize(self.size, Image.Resampling.LANCZOS, box=self.box)
        return ImageOps.mirror(shown) if self.mirrored else shown


def bucket_sizes(side: int, count: int, step: int) -> list[tuple[int, int]]:
    """`count` sizes (width, height) of about side x side pixels, from tall to wide; sides are multiples of `step`."""
    if count == 1:
        return [(side, side)]
    ratios = [MAX_ASPECT_RATIO ** (2 * index / (count - 1) - 1) for index in range(count)]
    rounded = [(_near(side * math.sqrt(ratio), step), _near(side / math.sqrt(ratio), step)) for ratio in ratios]
    return list(dict.fromkeys(rounded))


def cuts(pictures: Sequence[Image.Image], recipe: Recipe, side: int, step: int) -> Iterator[tuple[int, Crop]]:
    """Every training variant, with its picture's index: first centre crops, then mirrored ones, then random crops."""
    sizes = bucket_sizes(side, recipe.buckets, step)
    middle = [_centre_crop(picture.size, sizes) for picture in pictures]
    for index, (box, size) in enumerate(middle):
        yield index, Crop(box, size, mirrored=False)
    if recipe.random_flip:
        for index, (box, size) in enumerate(middle):
            yield index, Crop(box, size, mirrored=True)
    generator = torch.Generator().manual_seed(recipe.seed)
    for number in range(recipe.crops * len(pictures)):
        index = number % len(pictures)
        scale, across, down, mirror = torch.rand(4, generator=generator).tolist()
        box = _crop_box(
            pictures[index].size, middle[index][1], SMALLEST_CROP + (1 - SMALLEST_CROP) * scale, across, down
        )
        yield index, Crop(box, middle[index][1], recipe.random_flip and mirror < 0.5)


def _centre_crop(
    size: tuple[int, int], sizes: Sequence[tuple[int, int]]
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """The bucket of the nearest aspect ratio, and the largest centred box of that aspect ratio."""
    ratio = math.log(size[0] / size[1])
    chosen = min(sizes, key=lambda bucket: abs(math.log(bucket[0] / bucket[1]) - ratio))
    return _crop_box(size, chosen, 1.0, 0.5, 0.5), chosen


def _crop_box(
    size: tuple[int, int], shape: tuple[int, int], scale: float, across: float, down: float
) -> tuple[float, float, float, float]:
    """A box of the given aspect ratio, its sides `scale` of the largest; `across` and `down`, 0 to 1, position it."""
    unit = scale * min(size[0] / shape[0], size[1] / shape[1])
    width, height = unit * shape[0], unit * shape[1]
    left, top = across * (size[0] - width), down * (size[1] - height)
    return left, top, left + width, top + height


def _near(length: float, step: int) -> int:
    return max(step, round(length / step) * step)
