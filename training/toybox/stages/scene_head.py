"""An auxiliary head of the UNet: its features have to tell what is shown in each cell of the latents.

The denoising loss alone binds words to places slowly. As in REPA (Yu et al., 2025), features in the middle of the
network are trained towards what a recogniser knows; here that is known exactly, since the scenes are drawn by code.
The head is used in training alone and is not part of the base.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.toybox.scenes.render import Scene
from training.toybox.stages.detector import ATTRIBUTES, BACKGROUND_NAMES, MAX_ITEMS, item_attributes
from training.toybox.stages.masked_loss import IGNORE_INDEX, masked_cross_entropy

HIDDEN = 192
Targets = dict[str, Tensor]


class SceneHead(nn.Module):
    """From features (n, channels, 16, 16) to logits of each attribute, (n, values, 16, 16), and of the background,
    (n, backgrounds, 16, 16).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(16, channels)
        self.hidden = nn.Conv2d(channels, HIDDEN, 1)
        self.sizes = {**{name: len(values) for name, values in ATTRIBUTES.items()}, "background": len(BACKGROUND_NAMES)}
        self.logits = nn.Conv2d(HIDDEN, sum(self.sizes.values()), 1)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """The logits by attribute."""
        every = self.logits(F.silu(self.hidden(F.silu(self.norm(features)))))
        return dict(zip(self.sizes, every.split([*self.sizes.values()], 1), strict=True))

    def loss(self, features: Tensor, targets: Targets) -> Tensor:
        """The mean over attributes of the cross-entropy over the cells that have a label."""
        logits = self(features)
        losses = [masked_cross_entropy(logits[name].float(), wanted) for name, wanted in targets.items()]
        return torch.stack(losses).mean()


def cell_targets(scenes: Sequence[Scene], shown: Tensor) -> Targets:
    """The index of the value of each attribute in each cell, (n, 16, 16) long; IGNORE_INDEX where there is none.

    `shown` is that of a `LatentShard`. Cells without an item are labelled with the background.
    """
    tables = {name: torch.full((len(scenes), MAX_ITEMS + 1), IGNORE_INDEX) for name in ATTRIBUTES}
    for row, scene in enumerate(scenes):
        for index, item in enumerate(scene.items):
            for name, value in item_attributes(item).items():
                if value is not None:
                    tables[name][row, index + 1] = ATTRIBUTES[name].index(value)
    cells = (shown.long() + 1).flatten(1)  # 0 where no item is shown, which has no attributes
    targets = {name: table.gather(1, cells).view(shown.shape) for name, table in tables.items()}
    places = torch.tensor([BACKGROUND_NAMES.index(scene.background) for scene in scenes]).view(-1, 1, 1)
    targets["background"] = places.expand(shown.shape).masked_fill(shown >= 0, IGNORE_INDEX)
    return targets
