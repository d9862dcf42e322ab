"""How far each concept acts at each position of a layer, by the regions of a batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from studio.models.regions.layout import RegionLayout
from studio.serving.routing import Shares


def shares_in_space(names: Sequence[str], placed: Sequence[str], layout: RegionLayout) -> Shares:
    """How far the region of each concept of `names` covers a position; 1 for concepts without one, and for those whose
    region is not found yet. `placed` are the concepts of the layout's regions.
    """

    def shares(positions: int) -> Tensor:
        inside = layout.inside(positions)
        everywhere = torch.ones_like(inside[0])
        return torch.stack([everywhere if i is None else inside[i] for i in _confined(names, placed, layout)], -1)

    return shares


def shares_in_context(names: Sequence[str], placed: Sequence[str], layout: RegionLayout) -> Shares:
    """1 at the tokens of a concept's own prompt: its region's, or the whole picture's, which comes first. Those whose
    region is not found yet have both.
    """

    def shares(positions: int) -> Tensor:
        prompts = torch.arange(positions) // (positions // (1 + len(placed)))
        own = torch.tensor([placed.index(name) + 1 if name in placed else 0 for name in names])
        free = torch.tensor([index is None for index in _confined(names, placed, layout)])
        return ((prompts[:, None] == own) | ((prompts[:, None] == 0) & free)).float()[None]

    return shares


def _confined(names: Sequence[str], placed: Sequence[str], layout: RegionLayout) -> list[int | None]:
    """The index of each concept's region; None where it acts everywhere at present."""
    found = [placed.index(name) if name in placed else None for name in names]
    return [None if index is None or not layout.confines(index) else index for index in found]
