"""Stage 3 of toybox: the whole training set, encoded once."""

import io
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from concepts.storage import atomic_write
from training.toybox.render import Scene
from training.toybox.renders import WORLD, draw_all, scenes, to_signal

BATCH = 64


def encoded(
    folder: Path, model: AutoencoderKL, shards: int, device: str, spread: float = 1.0
) -> tuple[list[Scene], Tensor]:
    """The scenes and their latents, (scenes, channels, 16, 16) float16; encodes the shards not yet on disk."""
    drawn, parts = [], []
    for shard in range(shards):
        path = folder / f"latents-{WORLD}-{spread:g}" / f"{shard:04d}.npy"
        drawn.append(scenes(shard, spread=spread))
        if not path.exists():
            _write(path, _encode(model, drawn[-1], device))
        parts.append(torch.from_numpy(np.load(path)))
    return list(chain.from_iterable(drawn)), torch.cat(parts)


@torch.no_grad()
def _encode(model: AutoencoderKL, drawn: list[Scene], device: str) -> np.ndarray:
    rows = []
    for start in range(0, len(drawn), BATCH):
        levels = torch.from_numpy(draw_all(drawn[start : start + BATCH])).permute(0, 3, 1, 2)
        with torch.autocast(device, torch.bfloat16):
            (posterior,) = model.encode(to_signal(levels, device), return_dict=False)
        rows.append(posterior.mode().float().cpu())
    return torch.cat(rows).to(torch.float16).numpy()


def _write(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, buffer.getvalue())
