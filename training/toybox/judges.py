"""The judges of toybox: one small detector, trained on renders alone, that says what is where and in which colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from concepts.storage import atomic_write
from training.toybox.layout import (
    BACKGROUND_NAMES,
    COLOUR_NAMES,
    NOTHING,
    THING_NAMES,
    layout,
    mean_over_asked,
    present_and_absent,
)
from training.toybox.render import SIDE, Scene
from training.toybox.renders import pictures, scenes, softened, to_signal
from training.toybox.stage import (
    Average,
    channels_last,
    descend,
    learning_rate,
    run_stage,
    set_learning_rate,
    step_rng,
)

GRID = 16
WEIGHTS = Path(__file__).parent / "judges.safetensors"
BATCH = 64
SHARDS = 6
STEPS = 1800
PEAK_RATE = 2e-3


class Residual(nn.Module):
    """Halves the picture's side and widens its channels, then refines."""

    def __init__(self, channels_in: int, channels: int, stride: int = 2):
        super().__init__()
        self.enter = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.refine = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels_in, h, w) to (batch, channels, h / stride, w / stride)."""
        x = self.enter(x)
        return F.relu(x + self.refine(x))


class Judge(nn.Module):
    """(batch, 3, 128, 128) pictures in -1..1 to logits of things and colours per cell, and of the background."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            Residual(16, 32),
            Residual(32, 64),
        )
        self.coarse = nn.Sequential(Residual(64, 128), Residual(128, 128))
        self.back = nn.Conv2d(128, 64, 1)
        self.things = nn.Sequential(Residual(64, 96, 1), nn.Conv2d(96, len(THING_NAMES) + 1, 1))
        self.colours = nn.Sequential(Residual(64, 32, 1), nn.Conv2d(32, len(COLOUR_NAMES), 1))
        self.background = nn.Linear(64 + 128, len(BACKGROUND_NAMES))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (batch, things + 1, 16, 16), (batch, colours, 16, 16) and (batch, backgrounds)."""
        fine = self.fine(pictures)
        coarse = self.coarse(fine)
        whole = torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1)
        near = fine + F.interpolate(self.back(coarse), scale_factor=4, mode="bilinear")
        return self.things(near), self.colours(near), self.background(whole)


@dataclass(frozen=True)
class Verdict:
    """What the judge sees: the two most likely things with their colours, and the background."""

    things: tuple[str, str]
    colours: tuple[str, str]
    background: str


@torch.inference_mode()
def judge_pictures(judge: Judge, pictures: Sequence[Image.Image]) -> list[Verdict]:
    """A verdict for each RGB picture, which is seen at 128x128."""
    verdicts = []
    levels = [torch.from_numpy(np.array(picture.resize((SIDE, SIDE)))).permute(2, 0, 1) for picture in pictures]
    for batch in torch.stack(levels).split(64):
        things, colours, backgrounds = judge(to_signal(batch))
        peaks, cells = things.softmax(1)[:, :NOTHING].flatten(2).max(2)
        for row, order in enumerate(peaks.topk(2).indices.tolist()):
            tones = [int(colours[row].flatten(1)[:, cells[row, thing]].argmax()) for thing in order]
            first, second = (THING_NAMES[thing] for thing in order)
            hues = (COLOUR_NAMES[tones[0]], COLOUR_NAMES[tones[1]])
            verdicts.append(Verdict((first, second), hues, BACKGROUND_NAMES[int(backgrounds[row].argmax())]))
    return verdicts


def judge_loss(judge: Judge, signal: Tensor, batch: list[Scene]) -> Tensor:
    """Cross-entropy of things (present and absent cells weigh the same), colours and backgrounds."""
    rows = [layout(scene, GRID) for scene in batch]
    wanted_things, wanted_colours = (
        torch.from_numpy(np.stack(part)).to(signal.device) for part in zip(*rows, strict=True)
    )
    places = torch.tensor([BACKGROUND_NAMES.index(scene.background) for scene in batch], device=signal.device)
    with torch.autocast(signal.device.type, torch.bfloat16):
        things, colours, backgrounds = judge(signal)
    parts = list(present_and_absent(things.float(), wanted_things))
    parts.append(mean_over_asked(colours.float(), wanted_colours))
    return torch.stack([*parts, F.cross_entropy(backgrounds.float(), places)]).sum()


def train(folder: Path, device: str, steps: int = STEPS) -> Judge:
    """Trains the judge on augmented renders; resumes from `folder`."""
    torch.manual_seed(0)
    judge = channels_last(Judge(), device)
    optimizer = torch.optim.AdamW(judge.parameters(), PEAK_RATE, weight_decay=0.02, fused=True)
    average = Average(judge, 0.995)
    drawn = [scene for shard in range(SHARDS) for scene in scenes(shard)]
    levels = torch.cat([pictures(folder, shard) for shard in range(SHARDS)])

    def update(step: int) -> Tensor:
        rng = step_rng(23, step)
        set_learning_rate(optimizer, learning_rate(step, steps, PEAK_RATE))
        chosen = rng.integers(len(drawn), size=BATCH)
        signal = softened(to_signal(levels[chosen], device), rng)
        loss = judge_loss(judge, signal, [drawn[i] for i in chosen])
        descend(loss, judge, optimizer, average, step)
        return loss

    run_stage("judges", folder, steps, {"model": judge, "optimizer": optimizer, "average": average}, update)
    average.copy_to(judge)
    return judge.eval()


def write(judge: Judge) -> None:
    """Keeps the judge beside this file, in half precision."""
    halves = {key: value.half() if value.is_floating_point() else value for key, value in judge.state_dict().items()}
    atomic_write(WEIGHTS, save({key: value.contiguous() for key, value in halves.items()}))


def load(work: Path, device: str = "cpu") -> Judge:
    """The judge as it was written; where its file is missing it is trained anew, which takes about ten minutes."""
    if not WEIGHTS.exists():
        write(train(work, device).cpu())
    judge = channels_last(Judge(), "cpu")
    judge.load_state_dict(load_file(WEIGHTS))
    return judge.eval()
