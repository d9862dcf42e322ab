"""Stage 1 of toybox: the autoencoder, 128x128 pictures to latents of 16x16."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from training.toybox.backgrounds import Rng
from training.toybox.latents import encoded
from training.toybox.render import Scene
from training.toybox.renders import pictures, scenes, to_signal
from training.toybox.stage import (
    Average,
    channels_last,
    descend,
    learning_rate,
    run_stage,
    set_learning_rate,
    step_rng,
)

CHANNELS = (16, 32, 64, 96)
LATENT_CHANNELS = 8
CROP = 64
BATCH = 8
SHARDS = 4
STEPS = 8400
PEAK_RATE = 8e-4
KL_WEIGHT = 1e-4
DECODER_STEPS = 6000
DECODER_RATE = 8e-4
DECODER_NOISE = 0.15


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
    """How far the decoded signal is off, and a small pull of the latents towards a unit normal."""
    with torch.autocast(signal.device.type, torch.bfloat16):
        (posterior,) = model.encode(signal, return_dict=False)
        code: Any = posterior.sample()
        (decoded,) = model.decode(code, return_dict=False)
    elements = posterior.mean[0].numel()
    return reconstruction_loss(decoded.float(), signal) + KL_WEIGHT * posterior.kl().float().mean() / elements


def reconstruction_loss(decoded: Tensor, signal: Tensor) -> Tensor:
    """Mean absolute error, and half of that of the edges."""
    error = decoded - signal
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 0.5 * edges


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
        crops = [_part(levels[i], _corner(drawn[i], rng)) for i in rng.integers(len(levels), size=BATCH)]
        value = loss(model, to_signal(torch.stack(crops), device))
        descend(value, model, optimizer, average, step, 1.0)
        return value

    run_stage("autoencoder", folder, steps, {"model": model, "optimizer": optimizer, "average": average}, update)
    average.copy_to(model)
    return model.eval()


def refine_decoder(folder: Path, model: AutoencoderKL, scale: float, device: str, steps: int = DECODER_STEPS) -> None:
    """Goes on with the decoder alone, so that what was trained on the latents stays valid; resumes from `folder`.

    It learns from whole pictures' latents with a little noise, since the denoiser's are not exact either; `scale`
    is the factor that brings latents to unit variance.
    """
    before: Any = model.post_quant_conv
    decoder = channels_last(nn.ModuleList([before, model.decoder]), device)
    optimizer = torch.optim.AdamW(decoder.parameters(), DECODER_RATE, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    average = Average(decoder, 0.998)
    scenes, latents = encoded(folder, model, SHARDS, device)
    levels = torch.cat([pictures(folder, shard) for shard in range(SHARDS)])

    def update(step: int) -> Tensor:
        rng = step_rng(12, step)
        set_learning_rate(optimizer, learning_rate(step, steps, DECODER_RATE))
        chosen = rng.integers(len(levels), size=BATCH)
        corners = [_corner(scenes[i], rng) for i in chosen]
        signal = to_signal(torch.stack([_part(levels[i], at) for i, at in zip(chosen, corners, strict=True)]), device)
        parts = [_part(latents[i], at // 8, CROP // 8) for i, at in zip(chosen, corners, strict=True)]
        clean = torch.stack(parts).to(device).float()
        noisy = clean + torch.randn_like(clean) * rng.uniform(0, DECODER_NOISE) / scale
        with torch.autocast(device, torch.bfloat16):
            decoded = decoder[1](decoder[0](noisy))
        value = reconstruction_loss(decoded.float(), signal)
        descend(value, decoder, optimizer, average, step, 1.0)
        return value

    run_stage("decoder", folder, steps, {"model": decoder, "optimizer": optimizer, "average": average}, update)
    average.copy_to(decoder)


def _corner(scene: Scene, rng: Rng) -> np.ndarray:
    """The top left corner (row, column) of a crop around a thing, where there is more to learn than elsewhere."""
    centre = np.array(scene.items[rng.integers(len(scene.items))].centre[::-1] if scene.items else (0.5, 0.5))
    middle = 128 * centre + rng.uniform(-24, 24, 2)
    return np.clip(middle - CROP / 2, 0, 128 - CROP).astype(int) // 8 * 8


def _part(whole: Tensor, corner: np.ndarray, side: int = CROP) -> Tensor:
    """A square part of a picture or of latents, (channels, side, side)."""
    top, left = (int(place) for place in corner)
    return whole[:, top : top + side, left : left + side]
