"""The rendered training pictures of all stages, cached on disk in shards."""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from concepts.storage import atomic_write
from training.toybox.scenes.backgrounds import Rng
from training.toybox.scenes.render import Scene, draw_scene, sample_scene

SHARD = 2048
WORLD = 3
"""The version of scenes, raised when they change, so that older cached shards are not used."""
TRAIN_SEED, TEST_SEED = 1, 2


def scenes(shard: int, seed: int = TRAIN_SEED, count: int = SHARD) -> list[Scene]:
    """The scenes of one shard, deterministic by its arguments."""
    rng = np.random.default_rng((seed, shard))
    return [sample_scene(rng) for _ in range(count)]


def pictures(folder: Path, shard: int) -> Tensor:
    """The shard's pictures, (SHARD, 3, 128, 128) uint8, rendered if they are not cached."""
    path = folder / f"renders-{WORLD}" / f"{shard:04d}.npy"
    if not path.exists():
        buffer = io.BytesIO()
        np.save(buffer, draw_all(scenes(shard)))
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, buffer.getvalue())
    return torch.from_numpy(np.load(path)).permute(0, 3, 1, 2)


def draw_all(batch: list[Scene]) -> np.ndarray:
    """The scenes as pictures, (count, 128, 128, 3) uint8."""
    return np.stack([np.asarray(draw_scene(scene)) for scene in batch])


def to_signal(levels: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Pictures of 0..255 as float32 in -1..1, channels last in memory."""
    signal = levels.to(device).float() / 127.5 - 1
    return signal.contiguous(memory_format=torch.channels_last)


def to_levels(signal: Tensor) -> np.ndarray:
    """The signal (n, 3, h, w) as pictures of 0..255, (n, h, w, 3) uint8."""
    levels = ((signal.float().clamp(-1, 1) + 1) * 127.5).round()
    return levels.byte().permute(0, 2, 3, 1).cpu().numpy()


def softened(signal: Tensor, rng: Rng) -> Tensor:
    """Augmented pictures: randomly blurred, noisy, brighter or darker."""
    side = signal.shape[-1]
    if rng.random() < 0.5:
        small = F.interpolate(signal, size=int(rng.integers(round(0.3 * side), round(0.8 * side))), mode="area")
        signal = F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
    signal = signal * rng.uniform(0.85, 1.15) + rng.uniform(-0.1, 0.1)
    return signal + torch.randn_like(signal) * rng.uniform(0, 0.06)
