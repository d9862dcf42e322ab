"""From the cross-attention maps of several concepts to one disjoint soft mask for each."""

from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

SMOOTHING = 1 / 24
"""The standard deviation of the Gaussian that maps and masks are smoothed by, relative to the grid's longer side."""
CONTRAST = 0.5
"""How much whose attention is stronger counts against where a cell is, in units of the image's longer side."""
_ROUNDS = 20


def disjoint_masks(maps: Tensor) -> Tensor:
    """Masks (n, c, h, w) from 0 to 1, whose sum is at most 1, of attention maps (n, c, h, w) of c concepts.

    In each picture the foreground is where the smoothed maps are high (Otsu's threshold of their maximum). Its cells
    form one compact cluster for each concept, by their places and by whose attention is stronger, and the clusters go
    to the concepts so that the attention fits best: each concept has an area, and no two share one. The edges are
    smoothed.
    """
    sigma = SMOOTHING * max(maps.shape[-2:])
    scores = _normalised(blurred(maps, sigma))
    hard = torch.stack([_assigned(score) for score in scores])
    return blurred(hard, sigma).clamp(0, 1)


def blurred(maps: Tensor, sigma: float) -> Tensor:
    """Maps (n, c, h, w) smoothed by a Gaussian of this standard deviation in cells; constant maps stay as they are."""
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (weights / weights.sum()).view(1, 1, 1, -1)
    flat = maps.flatten(0, 1)[:, None]
    flat = F.conv2d(F.pad(flat, (radius, radius, 0, 0), mode="replicate"), kernel)
    flat = F.conv2d(F.pad(flat, (0, 0, radius, radius), mode="replicate"), kernel.mT)
    return flat.view(maps.shape)


def _normalised(maps: Tensor) -> Tensor:
    """Each map (n, c, h, w) from 0 to 1."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-12)


def _assigned(scores: Tensor) -> Tensor:
    """One picture's hard masks (c, h, w) of scores (c, h, w), at most one concept in a cell."""
    strongest = scores.amax(0)
    cells = (strongest > otsu_threshold(strongest)).nonzero()
    if len(cells) < len(scores):
        cells = torch.ones_like(strongest).nonzero()
    own = scores[:, cells[:, 0], cells[:, 1]].T
    contrast = own / own.sum(1, keepdim=True).clamp(min=1e-12)
    places = (cells + 0.5) / max(scores.shape[-2:])
    clusters = _clusters(torch.cat([places, CONTRAST * contrast], 1), strongest[cells[:, 0], cells[:, 1]], len(scores))
    one_hot = F.one_hot(clusters, len(scores)).to(scores)
    relative = contrast / contrast.mean(0).clamp(min=1e-12)
    fit = (one_hot.T @ relative) / one_hot.sum(0).clamp(min=1)[:, None]  # (clusters, concepts)
    orders = torch.tensor([*permutations(range(len(scores)))])
    concept_of = orders[fit[torch.arange(len(scores)), orders].sum(1).argmax()]
    masks = torch.zeros_like(scores)
    masks[concept_of[clusters], cells[:, 0], cells[:, 1]] = 1
    return masks


def _clusters(points: Tensor, weights: Tensor, count: int) -> Tensor:
    """The cluster, 0 to `count` - 1, of each of the points (m, d) with weights (m,), by Lloyd's k-means; it starts at
    the heaviest point, and then at those farthest from the ones before.
    """
    centres = points[weights.argmax()][None]
    while len(centres) < count:
        distance = torch.cdist(points, centres).amin(1)
        centres = torch.cat([centres, points[(distance * weights).argmax()][None]])
    for _ in range(_ROUNDS):
        nearest = torch.cdist(points, centres).argmin(1)
        shares = F.one_hot(nearest, count).to(points) * weights[:, None]
        total = shares.sum(0)[:, None]
        centres = torch.where(total > 0, shares.T @ points / total.clamp(min=1e-12), centres)
    return torch.cdist(points, centres).argmin(1)


def otsu_threshold(values: Tensor, bins: int = 64) -> float:
    """The threshold of values from 0 to 1 with the least variance within both classes (Otsu, 1979)."""
    counts = torch.histc(values.float(), bins, 0, 1)
    centres = (torch.arange(bins, device=values.device) + 0.5) / bins
    below, total = counts.cumsum(0), counts.sum()
    mass = (counts * centres).cumsum(0)
    above = total - below
    between = below * above * (mass / below.clamp(min=1) - (mass[-1] - mass) / above.clamp(min=1)).square()
    return float((between.argmax() + 1) / bins)
