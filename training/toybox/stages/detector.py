"""The detector of toybox: a small CenterNet, trained on renders, that classifies the items of a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from concepts.storage import atomic_write
from studio.metrics.identity import Residual
from training.toybox.scenes.dataset import to_signal
from training.toybox.scenes.individuals.traits import ACCESSORIES, PATTERNS, UNCOLOURED, Individual
from training.toybox.scenes.items import BACKGROUNDS, COLOURS
from training.toybox.scenes.render import KIND_NAMES, SIDE, Item
from training.toybox.stages.stage import channels_last

GRID = 16
"""Cells along each side of the heat map."""
MAX_ITEMS = 3
"""Maximum number of items in a picture."""
HEAT_THRESHOLD = 0.3
"""The minimum heat of a peak that counts as an item."""
BARE = "none"
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "kind": KIND_NAMES,
    "colour": tuple(COLOURS),
    "pattern": PATTERNS,
    "second_colour": tuple(COLOURS),
    "accessory": (BARE, *ACCESSORIES),
}
"""The attributes of an item, with their classes."""
BACKGROUND_NAMES = tuple(BACKGROUNDS)
WEIGHTS = Path(__file__).parent / "detector.safetensors"


@dataclass(frozen=True)
class Logits:
    """The detector's logits: `heat` (batch, 16, 16), attributes (batch, classes, 16, 16), background (n, classes)."""

    heat: Tensor
    attributes: Mapping[str, Tensor]
    background: Tensor


def item_attributes(item: Item) -> dict[str, str | None]:
    """The value of each of `ATTRIBUTES`; None where nothing is asked."""
    subject = item.subject
    if not isinstance(subject, Individual):
        return {**dict.fromkeys(ATTRIBUTES), "kind": item.kind, "colour": item.colour}
    return {
        "kind": item.kind, "colour": item.colour, "pattern": subject.pattern, "second_colour": subject.second_colour,
        "accessory": subject.accessory or BARE,
    }  # fmt: skip


class Detector(nn.Module):
    """A heat map of the items' centres whose attributes are read at its peaks (CenterNet, Zhou et al., 2019)."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            Residual(24, 48),
            Residual(48, 96),
        )
        self.middle, self.coarse = Residual(96, 128), Residual(128, 128)
        self.from_middle, self.from_coarse = nn.Conv2d(128, 96, 1), nn.Conv2d(128, 96, 1)
        last = nn.Conv2d(112, 1 + sum(map(len, ATTRIBUTES.values())), 1)
        assert last.bias is not None
        nn.init.constant_(last.bias[:1], -3)  # few cells are a centre
        self.items = nn.Sequential(Residual(96, 112, 1), last)
        self.background = nn.Linear(96 + 128, len(BACKGROUND_NAMES))

    def forward(self, pictures: Tensor) -> Logits:
        """Pictures (batch, 3, 128, 128) in -1..1 to logits."""
        fine = self.fine(pictures)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        near = fine + _grown(self.from_middle(middle), 2) + _grown(self.from_coarse(coarse), 4)
        heat, *parts = self.items(near).split([1, *map(len, ATTRIBUTES.values())], 1)
        whole = torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1)
        return Logits(heat[:, 0], dict(zip(ATTRIBUTES, parts, strict=True)), self.background(whole))


def _grown(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class DetectedItem:
    """One detected item; its centre is at (x, y) in units of the picture's side.

    For a thing (`items.THINGS`) only the kind and the colour are meaningful.
    """

    kind: str
    colour: str
    pattern: str
    second_colour: str | None
    accessory: str | None
    x: float
    y: float


@dataclass(frozen=True)
class Detection:
    """The detection of a picture: up to three items, most confident first, and the background."""

    items: tuple[DetectedItem, ...]
    background: str

    def place(self, item: DetectedItem) -> str:
        """Where one of its items is: left, middle or right of the others, or of the picture if it is alone."""
        if len(self.items) == 1:
            return ("left", "middle", "right")[min(2, int(3 * item.x))]
        across = sorted(self.items, key=lambda other: other.x)
        return {0: "left", len(across) - 1: "right"}.get(across.index(item), "middle")


@torch.inference_mode()
def detect(detector: Detector, pictures: Sequence[Image.Image]) -> list[Detection]:
    """A detection for each RGB picture, which is resized to 128x128."""
    levels = [torch.from_numpy(np.array(p.convert("RGB").resize((SIDE, SIDE)))).permute(2, 0, 1) for p in pictures]
    found = []
    for batch in torch.stack(levels).split(64):
        logits = detector(to_signal(batch))
        heat = logits.heat.float().sigmoid()
        peaks = heat * (heat == F.max_pool2d(heat, 3, 1, 1))
        values, cells = peaks.flatten(1).topk(MAX_ITEMS)
        chosen = {name: part.argmax(1).flatten(1) for name, part in logits.attributes.items()}
        for row, background in enumerate(logits.background.argmax(1).tolist()):
            here = [int(cell) for cell, value in zip(cells[row], values[row], strict=True) if value > HEAT_THRESHOLD]
            items = tuple(_found({name: int(part[row, cell]) for name, part in chosen.items()}, cell) for cell in here)
            found.append(Detection(items, BACKGROUND_NAMES[background]))
    return found


def _found(chosen: dict[str, int], cell: int) -> DetectedItem:
    names = {attribute: ATTRIBUTES[attribute][index] for attribute, index in chosen.items()}
    second = None if names["pattern"] in UNCOLOURED else names["second_colour"]
    accessory = None if names["accessory"] == BARE else names["accessory"]
    y, x = divmod(cell, GRID)
    return DetectedItem(
        names["kind"], names["colour"], names["pattern"], second, accessory, (x + 0.5) / GRID, (y + 0.5) / GRID
    )


def write(detector: Detector) -> None:
    """Saves the detector beside this file, in half precision."""
    state = detector.state_dict()
    halves = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    atomic_write(WEIGHTS, save({key: value.contiguous() for key, value in halves.items()}))


def load() -> Detector:
    """The saved detector; raises FileNotFoundError if there is none."""
    detector = channels_last(Detector(), "cpu")
    detector.load_state_dict(load_file(WEIGHTS))
    return detector.eval()
