"""Collapse of subjects: whether each of several concepts in one image is still itself.

After Chen et al., 2026, "When Identities Collapse" (arXiv 2603.26078, section 4.3), who compare whole images with each
subject's references by DINOv2; here each subject's own region is compared, and a subject that looks more like another
concept of the same prompt counts as collapsed, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from studio.models.regions.region import crop

DINOV2_THRESHOLDS = (0.4, 0.5, 0.6)
"""The cosines of DINOv2 below which the paper counts a subject as collapsed."""
NOBODY = "nobody"
"""Who a subject below the threshold is taken for."""


@dataclass(frozen=True)
class Collapse:
    """The subjects of a prompt in n images: `rate`, the share of them that collapsed (the Subject Collapse Rate);
    `confusion`, for each subject the share of images in which it was taken for each of them, or for nobody, as
    (k, k + 1); and `similarity`, each subject's mean cosine with its own references, (k,).
    """

    names: tuple[str, ...]
    rate: float
    confusion: Tensor
    similarity: Tensor

    @property
    def columns(self) -> tuple[str, ...]:
        """Who the columns of `confusion` stand for."""
        return (*self.names, NOBODY)


def collapse(names: Sequence[str], similarities: Tensor, threshold: float | None = None) -> Collapse:
    """The collapse of k subjects in n images by the similarity (n, k, k) of each one's region with every one's
    references: element [n, i, j] is subject i's region compared with concept j.

    A subject collapsed where another concept's references are nearer than its own, or where its own cosine is below
    `threshold`, if there is one.
    """
    count = len(names)
    own = similarities.diagonal(dim1=1, dim2=2)
    taken = similarities.argmax(2)
    if threshold is not None:
        taken = torch.where(own < threshold, count, taken)
    confusion = torch.nn.functional.one_hot(taken, count + 1).float().mean(0)
    rate = 1 - confusion[:, :count].diagonal().mean().item()
    return Collapse(tuple(names), rate, confusion, own.mean(0))


def subject_crops(image: Image.Image, masks: Tensor) -> list[Image.Image]:
    """The part of an image around each subject: the smallest box that holds its mask's values above one
    half, or above half of its maximum; masks are (k, height, width) from 0 to 1.
    """
    return [crop(image, _box(mask)) for mask in masks]


def _box(mask: Tensor) -> tuple[float, float, float, float]:
    """Top, left, bottom, right of a mask (h, w) in units of its height and width; the whole image for an empty one."""
    inside = mask > min(0.5, float(mask.max()) / 2)
    if not inside.any():
        return 0.0, 0.0, 1.0, 1.0
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    height, width = mask.shape
    return (
        float(rows[0]) / height, float(columns[0]) / width,
        float(rows[-1] + 1) / height, float(columns[-1] + 1) / width,
    )  # fmt: skip


def similarities(regions: Sequence[Tensor], references: Sequence[Tensor]) -> Tensor:
    """Cosines (n, k, k) of k subjects' regions in n images, unit vectors (n, d) for each subject, with the mean of
    each concept's references, unit vectors (m, d) for each.
    """
    means = torch.nn.functional.normalize(torch.stack([own.mean(0) for own in references]), dim=-1)
    return torch.stack(list(regions), 1) @ means.T
