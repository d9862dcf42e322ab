"""What is where in a scene, as targets on a grid for whoever learns to see it."""

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from training.toybox.scenes.items import BACKGROUNDS, COLOURS
from training.toybox.scenes.render import KIND_NAMES, SIDE, Scene, see

THING_NAMES, COLOUR_NAMES, BACKGROUND_NAMES = list(KIND_NAMES), list(COLOURS), list(BACKGROUNDS)
NOTHING = len(THING_NAMES)
UNASKED = -1


def layout(scene: Scene, grid: int, core: float = 0.17) -> tuple[np.ndarray, np.ndarray]:
    """What each cell should say, (grid, grid) twice: the thing (or NOTHING) and its colour; UNASKED where unclear.

    A thing is asked for within `core` of its size around its centre, and nothing beyond half of its size.
    """
    centres = (np.arange(grid) + 0.5) / grid
    rows, columns = np.meshgrid(centres, centres, indexing="ij")
    things, colours = np.full((grid, grid), NOTHING), np.full((grid, grid), UNASKED)
    away = [_away(see(item).box, rows, columns) for item in scene.items]
    for distance in away:
        things[distance < 0.5] = UNASKED
    for item, distance in zip(scene.items, away, strict=True):
        things[distance < core] = THING_NAMES.index(item.kind)
        if item.colour:
            colours[distance < core] = COLOUR_NAMES.index(item.colour)
    return things, colours


def _away(box: tuple[int, int, int, int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """How far each cell is from the middle of a box in pixels, in units of the box's longer side."""
    left, top, right, bottom = (edge / SIDE for edge in box)
    return np.hypot(columns - (left + right) / 2, rows - (top + bottom) / 2) / max(right - left, bottom - top)


def present_and_absent(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy where there is a thing, and where there is none: the few cells must count as much as the many.

    `logits` are (n, things + 1, h, w) and `wanted` is (n, h, w).
    """
    present = wanted.masked_fill(wanted == NOTHING, UNASKED)
    absent = wanted.masked_fill(wanted != NOTHING, UNASKED)
    return mean_over_asked(logits, present), mean_over_asked(logits, absent)


def mean_over_asked(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy over the cells that are not UNASKED; 0 where all are."""
    total = F.cross_entropy(logits, wanted, ignore_index=UNASKED, reduction="sum")
    return total / (wanted != UNASKED).sum().clamp(min=1)
