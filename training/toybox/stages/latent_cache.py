"""The denoiser's training scenes as latents, cached on disk in shards."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save
from torch import Tensor

from concepts.storage import atomic_write
from training.toybox.scenes.dataset import TRAIN_SEED, WORLD, scenes, to_signal
from training.toybox.scenes.render import SIDE, Placement, Scene, draw_with_placements
from training.toybox.stages.autoencoder import encode

SHARD = 1024
"""Scenes in a shard: half a minute of one core."""
SIZE = 16
BATCH = 64
NO_ITEM = -1


@dataclass(frozen=True)
class LatentShard:
    """Scenes, their latents (n, channels, 16, 16) float16, the items' coverage of each cell, (n, 16, 16) uint8, and the
    index in the scene of the item shown in each cell, (n, 16, 16) int8, or NO_ITEM.
    """

    scenes: list[Scene]
    latents: Tensor
    covered: Tensor
    shown: Tensor


def encoded(folder: Path, model: AutoencoderKL, shard: int, device: str, seed: int = TRAIN_SEED) -> LatentShard:
    """One shard, rendered and encoded if it is not cached. The cache is specific to the autoencoder's weights."""
    path = folder / f"latents-{WORLD}-{fingerprint(model)}-shown" / f"{seed}-{shard:04d}.safetensors"
    rendered = scenes(shard, seed, SHARD)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, save(_encode(model, rendered, device)))
    tensors = load_file(path)
    return LatentShard(rendered, tensors["latents"], tensors["covered"], tensors["shown"])


def fingerprint(model: AutoencoderKL) -> str:
    """A hash of the autoencoder's weights, from those of the first convolution."""
    first = model.encoder.conv_in.weight.detach().cpu().half().contiguous()
    return hashlib.sha256(first.numpy().tobytes()).hexdigest()[:8]


@torch.no_grad()
def _encode(model: AutoencoderKL, rendered: list[Scene], device: str) -> dict[str, Tensor]:
    latents, covered, shown = [], [], []
    for start in range(0, len(rendered), BATCH):
        part = [draw_with_placements(scene) for scene in rendered[start : start + BATCH]]
        levels = torch.from_numpy(np.stack([np.asarray(picture) for picture, _ in part])).permute(0, 3, 1, 2)
        with torch.autocast(device, torch.bfloat16):
            latents.append(encode(model, to_signal(levels, device)).cpu().half().contiguous())
        covered.extend(torch.from_numpy(cover(seen)) for _, seen in part)
        shown.extend(torch.from_numpy(shown_items(seen)) for _, seen in part)
    return {"latents": torch.cat(latents), "covered": torch.stack(covered), "shown": torch.stack(shown)}


def shown_items(seen: list[Placement]) -> np.ndarray:
    """The index of the item that covers half of a cell or more, the foremost one, (16, 16) int8; NO_ITEM elsewhere."""
    shown = np.full((SIZE, SIZE), NO_ITEM, np.int8)
    for index, item in enumerate(seen):
        shown[np.asarray(item.silhouette.reduce(SIDE // SIZE)) >= 128] = index
    return shown


def cover(seen: list[Placement]) -> np.ndarray:
    """The items' coverage of each cell of the picture, (16, 16) uint8: 0 to 255."""
    covered = np.zeros((SIZE, SIZE), np.uint8)
    for item in seen:
        covered = np.maximum(covered, np.asarray(item.silhouette.reduce(SIDE // SIZE)))
    return covered
