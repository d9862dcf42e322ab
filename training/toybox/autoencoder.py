"""Stage 1 of toybox: the autoencoder, 128x128 pictures to latents of 16x16."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from training.toybox.backgrounds import Rng
from training.toybox.render import Scene
from training.toybox.renders import pictures, scenes, to_signal
from training.toybox.stage import Average, channels_last, learning_rate, run_stage, set_learning_rate, step_rng

CHANNELS = (16, 32, 64, 96)
LATENT_CHANNELS = 8
CROP = 64
BATCH = 8
SHARDS = 4
STEPS = 8400
PEAK_RATE = 8e-4
KL_WEIGHT = 1e-4


def build() -> AutoencoderKL:
    """The untrained autoencoder: small at full resolution, where a CPU spends most of its time."""
    levels = len(CHANNELS)
    options: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": CHANNELS,
        "layers_per_block": 1,
        "latent_channels": LATENT_CHANNELS,
        "norm_num_groups": 8,
        "sample_size": 128,
        "mid_block_add_attention": False,
    }
    return AutoencoderKL(**options)


def loss(model: AutoencoderKL, signal: Tensor) -> Tensor:
    """Mean absolute error, that of the edges, and a small pull of the latents towards a unit normal."""
    with torch.autocast(signal.device.type, torch.bfloat16):
        (posterior,) = model.encode(signal, return_dict=False)
        (decoded,) = model.decode(posterior.sample(), return_dict=False)
    error = decoded.float() - signal
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    elements = posterior.mean[0].numel()
    return error.abs().mean() + 0.5 * edges + KL_WEIGHT * posterior.kl().float().mean() / elements


def train(folder: Path, device: str, steps: int = STEPS) -> AutoencoderKL:
    """Trains on 64x64 crops, which cost a quarter and show as many edges; resumes from `folder`."""
    torch.manual_seed(0)
    model = channels_last(build(), device)
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    average = Average(model, 0.998)
    levels = torch.cat([pictures(folder, shard) for shard in range(SHARDS)])
    drawn = [scene for shard in range(SHARDS) for scene in scenes(shard)]

    def update(step: int) -> Tensor:
        rng = step_rng(11, step)
        set_learning_rate(optimizer, learning_rate(step, steps, PEAK_RATE))
        crops = [_crop(levels[i], drawn[i], rng) for i in rng.integers(len(levels), size=BATCH)]
        value = loss(model, to_signal(torch.stack(crops), device))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update(model, step)
        return value

    run_stage("autoencoder", folder, steps, {"model": model, "optimizer": optimizer, "average": average}, update)
    average.copy_to(model)
    return model.eval()


def _crop(levels: Tensor, scene: Scene, rng: Rng) -> Tensor:
    """A square part of a picture around a thing, where there is more to learn than on a plain background."""
    centre = np.array(scene.items[rng.integers(len(scene.items))].centre if scene.items else (0.5, 0.5))
    middle = 128 * centre + rng.uniform(-24, 24, 2)
    left, top = np.clip(middle - CROP / 2, 0, 128 - CROP).astype(int) // 8 * 8
    return levels[:, top : top + CROP, left : left + CROP]
