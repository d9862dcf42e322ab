"""A stage of toybox: the autoencoder, 128x128 pictures to latents of 16x16."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from concepts.samples import SAMPLES
from training.toybox.scenes.backgrounds import Rng
from training.toybox.scenes.dataset import TEST_SEED, draw_all, scenes, to_levels, to_signal
from training.toybox.scenes.individuals.traits import Individual
from training.toybox.scenes.render import SIDE, draw_scene, sample_scene
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
from training.toybox.stages.training_log import TrainingLog, tiled

CHANNELS = (32, 64, 96, 128)
LATENT_CHANNELS = 16
CROP = 64
SIDES = (128, 128, 128, 80, 96, 112, 160, 192)
"""The sides at which scenes are rendered for crops, so that items vary in size."""
BATCH = 8
STEPS = 5000
PEAK_RATE, OTHER_RATE = 8e-3, 2e-3
"""Muon's learning rate, and AdamW's for biases and norms."""
DECAY = 0.6
NOISE = 0.08
"""The noise added to latents in training, since the denoiser's latents are not exact."""
LATENT_PENALTY = 2e-4
"""The weight of the penalty on the latents' mean square, which limits their scale relative to the noise."""
UNSEEN = 200
FOLDED = 512
"""The number of scenes for the latents' mean and standard deviation."""


def build() -> AutoencoderKL:
    """The untrained autoencoder, with few channels at full resolution, which takes most of a CPU's time."""
    levels = len(CHANNELS)
    options: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": CHANNELS,
        "layers_per_block": 1,
        "latent_channels": LATENT_CHANNELS,
        "norm_num_groups": 8,
        "sample_size": SIDE,
        "mid_block_add_attention": False,
    }
    return AutoencoderKL(**options)


def loss(model: AutoencoderKL, signal: Tensor) -> Tensor:
    """The reconstruction loss of a signal (n, 3, h, w), with a small penalty on the latents.

    Means with noise of fixed scale are decoded, not samples, so that the encoder cannot reduce the noise.
    """
    with torch.autocast(signal.device.type, torch.bfloat16):
        means = encode(model, signal)
        error = decode(model, means + NOISE * torch.randn_like(means)) - signal
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 0.5 * edges + LATENT_PENALTY * means.float().square().mean()


def encode(model: AutoencoderKL, signal: Tensor) -> Tensor:
    """The latents' means, (n, channels, h / 8, w / 8), of a signal in -1..1."""
    (posterior,) = model.encode(signal, return_dict=False)
    return posterior.mode()


def decode(model: AutoencoderKL, latents: Any) -> Tensor:
    """The signal (n, 3, h, w) of latents."""
    (decoded,) = model.decode(latents, return_dict=False)
    return decoded.float()


def draw_crop(rng: Rng) -> np.ndarray:
    """A crop of a new random scene, (CROP, CROP, 3) uint8, mostly around an item, where detail is."""
    scene, side = sample_scene(rng), int(rng.choice(SIDES))
    centre = np.array(scene.items[rng.integers(len(scene.items))].centre[::-1] if scene.items else (0.5, 0.5))
    corner = side * centre + rng.uniform(-0.19, 0.19, 2) * side - CROP / 2
    top, left = np.clip(corner, 0, side - CROP).astype(int)
    return np.asarray(draw_scene(scene, side))[top : top + CROP, left : left + CROP]


def train(folder: Path, device: str, steps: int = STEPS, log_folder: Path | None = None) -> AutoencoderKL:
    """Trains on 64x64 crops, at a quarter of the cost; resumes from `folder`.

    With `log_folder` a training log is written there. The returned model's latents have zero mean in each channel.
    """
    torch.manual_seed(0)
    model = channels_last(build(), device)
    optimizer = MuonWithAdamW([(model, 1.0)], PEAK_RATE, OTHER_RATE)
    average = EMAWeights(model, 0.998)

    def rate(step: int) -> float:
        return learning_rate(step, steps, PEAK_RATE, decay=DECAY)

    def update(step: int) -> Tensor:
        rng = step_rng(11, step)
        set_learning_rate(optimizer, rate(step))
        crops = torch.from_numpy(np.stack([draw_crop(rng) for _ in range(BATCH)])).permute(0, 3, 1, 2)
        value = loss(model, to_signal(crops, device))
        optimizer_step(value, model, optimizer, average, step)
        return value

    training_log = _training_log(model, average, log_folder, rate) if log_folder else None
    run_stage(
        "autoencoder", folder, steps, {"model": model, "optimizer": optimizer, "average": average}, update, training_log
    )
    average.copy_to(model)
    return fold(model.eval(), device)


@torch.no_grad()
def fold(model: AutoencoderKL, device: str) -> AutoencoderKL:
    """Normalizes the latents: zero mean in each channel, by the weights, and unit deviation, by scaling_factor."""
    signal = to_signal(torch.from_numpy(draw_all(scenes(0, count=FOLDED))).permute(0, 3, 1, 2), device)
    latents = torch.cat([encode(model, part) for part in signal.split(32)])
    mean = latents.mean((0, 2, 3))
    before, after = model.quant_conv, model.post_quant_conv
    assert before is not None and before.bias is not None and after is not None and after.bias is not None  # noqa: PT018
    before.bias[: len(mean)] -= mean
    after.bias += after.weight[:, :, 0, 0] @ mean
    model.register_to_config(scaling_factor=1 / (latents - mean[:, None, None]).std().item())
    return model


def sample_pictures() -> np.ndarray:
    """The pictures of the sample concepts, (60, 128, 128, 3) uint8."""
    paths = [path for sample in SAMPLES.values() for path in sample.pictures]
    return np.stack([_small(path) for path in paths])


def _small(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def unseen_pictures(count: int = UNSEEN) -> np.ndarray:
    """Pictures of unseen individuals, each alone in a scene, (count, 128, 128, 3) uint8."""
    sampled = [scene for scene in scenes(0, TEST_SEED, 8 * count) if len(scene.items) == 1]
    return draw_all([scene for scene in sampled if isinstance(scene.items[0].subject, Individual)][:count])


@torch.no_grad()
def reconstructed(model: AutoencoderKL, pictures: np.ndarray, device: str) -> tuple[np.ndarray, float]:
    """Reconstructions of pictures (n, h, w, 3) uint8, and their PSNR: 10 log10(4 / mse) on -1..1, in dB."""
    results, squares = [], 0.0
    for part in to_signal(torch.from_numpy(pictures).permute(0, 3, 1, 2)).split(16):
        with torch.autocast(device, torch.bfloat16):
            decoded = decode(model, encode(model, part.to(device)))
        squares += (decoded.cpu() - part).square().sum().item()
        results.append(to_levels(decoded))
    return np.concatenate(results), float(10 * np.log10(4 * pictures.size / squares))


def _training_log(model: AutoencoderKL, average: EMAWeights, folder: Path, rate: Any) -> TrainingLog:
    samples, unseen = sample_pictures(), unseen_pictures()
    device = next(model.parameters()).device.type

    def measure() -> Mapping[str, float]:
        with average.applied_to(model):
            names = {"psnr_samples": samples, "psnr_unseen": unseen}
            return {name: reconstructed(model, pictures, device)[1] for name, pictures in names.items()}

    def sheet() -> Image.Image:
        shown = np.concatenate([samples[::10], unseen[:6]])
        with average.applied_to(model):
            return tiled(np.stack([shown, reconstructed(model, shown, device)[0]], 1).reshape(-1, SIDE, SIDE, 3), 6)

    return TrainingLog(folder, BATCH, rate, measure, sheet)
