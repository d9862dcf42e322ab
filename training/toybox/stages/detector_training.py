"""Trains the detector: targets from the renderer, and the losses of CenterNet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.toybox.scenes.backgrounds import Rng
from training.toybox.scenes.dataset import softened, to_signal
from training.toybox.scenes.render import SIDE, Placement, Scene, draw_with_placements, sample_scene
from training.toybox.stages.detector import ATTRIBUTES, BACKGROUND_NAMES, GRID, Detector, item_attributes
from training.toybox.stages.masked_loss import IGNORE_INDEX, masked_cross_entropy
from training.toybox.stages.muon import MuonWithAdamW
from training.toybox.stages.stage import (
    EMAWeights,
    channels_last,
    learning_rate,
    optimizer_step,
    run_stage,
    set_learning_rate,
    step_rng,
)

BATCH, PARTS = 48, 4
"""Scenes per step, each used twice, once mirrored; parts of a batch with the same blur."""
STEPS = 5000
PEAK_RATE, OTHER_RATE = 1e-2, 2e-3
"""Muon's learning rate, and AdamW's for norms and biases."""
SPREAD = 0.9
"""The standard deviation of the heat around a centre, in cells."""
Targets = dict[str, Tensor]


def targets(scenes: Sequence[Scene], seen: Sequence[Sequence[Placement]]) -> Targets:
    """The detector's targets: "heat" (n, 16, 16) in 0..1, each attribute's index (n, 16, 16), "background" (n,).

    Attributes are labelled in the 3x3 cells around a centre, and IGNORE_INDEX elsewhere or where an item has none.
    """
    heat = np.zeros((len(scenes), GRID, GRID), np.float32)
    wanted = {name: np.full(heat.shape, IGNORE_INDEX) for name in ATTRIBUTES}
    rows, columns = np.mgrid[:GRID, :GRID]
    for index, (scene, places) in enumerate(zip(scenes, seen, strict=True)):
        for item, place in zip(scene.items, places, strict=True):
            left, top, right, bottom = place.box
            x, y = (min(GRID - 1, int((low + high) / 2 / SIDE * GRID)) for low, high in ((left, right), (top, bottom)))
            square = (rows - y) ** 2 + (columns - x) ** 2
            heat[index] = np.maximum(heat[index], np.exp(-square / (2 * SPREAD**2)))
            for name, value in item_attributes(item).items():
                wanted[name][index][square <= 2] = IGNORE_INDEX if value is None else ATTRIBUTES[name].index(value)
    places = [BACKGROUND_NAMES.index(scene.background) for scene in scenes]
    return {
        "heat": torch.from_numpy(heat),
        **{name: torch.from_numpy(part) for name, part in wanted.items()},
        "background": torch.tensor(places),
    }


def mirrored(wanted: Targets) -> Targets:
    """The targets of the pictures' mirror images."""
    return {name: part.flip(-1) if part.ndim == 3 else part for name, part in wanted.items()}


def detector_loss(detector: Detector, signal: Tensor, wanted: Targets) -> Tensor:
    """The focal loss of the heat map, and the cross-entropies of attributes and background."""
    with torch.autocast(signal.device.type, torch.bfloat16):
        logits = detector(signal)
    parts = [masked_cross_entropy(part.float(), wanted[name]) for name, part in logits.attributes.items()]
    background = F.cross_entropy(logits.background.float(), wanted["background"])
    return torch.stack([focal_loss(logits.heat.float(), wanted["heat"]), *parts, background]).sum()


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """CenterNet's penalty-reduced focal loss (Zhou et al., 2019, eq. 1), per item; logits and heat are (n, h, w)."""
    peak, seen = heat == 1, logits.sigmoid()
    hit = F.logsigmoid(logits) * (1 - seen) ** 2
    miss = F.logsigmoid(-logits) * seen**2 * (1 - heat) ** 4
    return -torch.where(peak, hit, miss).sum() / peak.sum().clamp(min=1)


def train(folder: Path, device: str, steps: int = STEPS) -> Detector:
    """Trains the detector on new augmented renders; resumes from `folder`."""
    torch.manual_seed(0)
    detector = channels_last(Detector(), device)
    optimizer = MuonWithAdamW([(detector, 1.0)], PEAK_RATE, OTHER_RATE)
    average = EMAWeights(detector, 0.995)

    def update(step: int) -> Tensor:
        rng = step_rng(23, step)
        set_learning_rate(optimizer, learning_rate(step, steps, PEAK_RATE))
        signal, wanted = _sample_batch(rng, device)
        loss = detector_loss(detector, signal, wanted)
        optimizer_step(loss, detector, optimizer, average, step)
        return loss

    run_stage("detector", folder, steps, {"model": detector, "optimizer": optimizer, "average": average}, update)
    average.copy_to(detector)
    return detector.eval()


def _sample_batch(rng: Rng, device: str) -> tuple[Tensor, Targets]:
    """BATCH new scenes and their mirror images as augmented pictures, with their targets."""
    sampled = [sample_scene(rng) for _ in range(BATCH)]
    pictures, seen = zip(*map(draw_with_placements, sampled), strict=True)
    levels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
    plain = to_signal(levels, device)
    signal = torch.cat([augmented(plain, rng), augmented(plain.flip(-1), rng)])
    wanted = targets(sampled, seen)
    both = {name: torch.cat([part, mirrored(wanted)[name]]).to(device) for name, part in wanted.items()}
    return signal, both


def augmented(signal: Tensor, rng: Rng) -> Tensor:
    """The pictures (n, 3, h, w) with random blur by part, and small random colour shifts."""
    tints = torch.from_numpy(rng.uniform(-0.06, 0.06, (len(signal), 3, 1, 1)).astype(np.float32)).to(signal)
    parts = [softened(part, rng) for part in (signal + tints).chunk(PARTS)]
    return torch.cat(parts).contiguous(memory_format=torch.channels_last)
