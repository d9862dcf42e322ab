"""Cross-entropy over labelled positions only."""

from torch import Tensor
from torch.nn import functional as F

IGNORE_INDEX = -1
"""The target of positions that have no label."""


def masked_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy over the targets that are not IGNORE_INDEX; 0 where all are.

    `logits` are (n, classes, …) and `targets` (n, …).
    """
    total = F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (targets != IGNORE_INDEX).sum().clamp(min=1)
