"""Regions of an image, each with its own prompt: a box, a drawn mask, or one that sampling finds."""

from collections.abc import Hashable
from dataclasses import dataclass
from math import sqrt

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from concepts.errors import StudioError


@dataclass(frozen=True)
class Region:
    """A box in units of the picture's height and width, 0 to 1, and the prompt inside it."""

    prompt: str
    top: float
    left: float
    bottom: float
    right: float

    def __post_init__(self) -> None:
        if not (0 <= self.top < self.bottom <= 1 and 0 <= self.left < self.right <= 1):
            box = f"{self.top},{self.left},{self.bottom},{self.right}"
            raise StudioError(
                f"Region {box} is invalid. Give top,left,bottom,right with top < bottom and left < right, inside "
                "the image."
            )

    @property
    def place(self) -> Hashable:
        """Where it is: regions of one place can share a batch."""
        return self.top, self.left, self.bottom, self.right

    def coverage(self, rows: int, columns: int) -> Tensor:
        """1 in the cells of a rows x columns grid whose centre is in the box, else 0; (rows, columns)."""
        y = (torch.arange(rows) + 0.5) / rows
        x = (torch.arange(columns) + 0.5) / columns
        inside = ((y >= self.top) & (y < self.bottom))[:, None] & ((x >= self.left) & (x < self.right))[None]
        return inside.float()


@dataclass(frozen=True, eq=False)
class MaskRegion:
    """A drawn mask (h, w) of values from 0 to 1, stretched over the picture, and the prompt inside it."""

    prompt: str
    mask: Tensor

    def __post_init__(self) -> None:
        if not self.mask.any():
            raise StudioError("The mask of a region is empty. Paint white where the concept should be.")

    @property
    def place(self) -> Hashable:
        """Where it is: regions of one place can share a batch."""
        return id(self.mask)

    def coverage(self, rows: int, columns: int) -> Tensor:
        """How far the mask covers each cell of a rows x columns grid, (rows, columns)."""
        return resized(self.mask[None], rows, columns)[0]


@dataclass(frozen=True)
class AutoRegion:
    """A region that the first denoising steps find, from the cross-attention to `tokens` in the picture's prompt.

    Unless it is `applied`, all steps find it, and nothing is confined to it: it then tells where the concept is.
    """

    prompt: str
    tokens: tuple[str, ...]
    applied: bool = True

    @property
    def place(self) -> Hashable:
        """Where it is: regions of one place can share a batch, as those that each picture finds for itself."""
        return "auto", self.applied


AnyRegion = Region | MaskRegion | AutoRegion


def resized(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Maps (…, h, w) on another grid, (…, rows, columns): averaged where it is coarser."""
    flat = maps.flatten(0, -3)[None] if maps.ndim > 3 else maps[None]
    if rows <= maps.shape[-2] and columns <= maps.shape[-1]:
        same = F.adaptive_avg_pool2d(flat, (rows, columns))
    else:
        same = F.interpolate(flat, (rows, columns), mode="bilinear", align_corners=False)
    return same[0].view(*maps.shape[:-2], rows, columns)


def grid(positions: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of the attention positions of a picture that is `aspect` times as wide as it is high."""
    rows = round(sqrt(positions / aspect))
    return rows, positions // rows


def crop(picture: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """The crop of a picture to a box, (top, left, bottom, right) in units of its height and width."""
    top, left, bottom, right = box
    rows, columns = (top * picture.height, bottom * picture.height), (left * picture.width, right * picture.width)
    return picture.crop((round(columns[0]), round(rows[0]), round(columns[1]), round(rows[1])))
