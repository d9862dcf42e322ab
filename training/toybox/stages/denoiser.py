"""A stage of toybox: trains the UNet, together with the text encoder, on latents and captions."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from training.engine.denoising_loss import draw_timesteps
from training.toybox.stages import pipeline
from training.toybox.stages.autoencoder import LATENT_CHANNELS
from training.toybox.stages.denoiser_batches import BATCH, Batch, BatchSampler
from training.toybox.stages.latent_cache import SIZE
from training.toybox.stages.muon import MuonWithAdamW
from training.toybox.stages.scene_head import SceneHead
from training.toybox.stages.stage import (
    EMAWeights,
    channels_last,
    learning_rate,
    optimizer_step,
    run_stage,
    set_learning_rate,
    step_rng,
)
from training.toybox.stages.text_encoder import tokens
from training.toybox.stages.training_log import TrainingLog

CHANNELS = (128, 192, 256)
ATTENTION = ("neither", "up", "both")
"""Attention at 16x16: in no block, in the up block, or also in the down block."""
STEPS = 20_000
PEAK_RATE, OTHER_RATE = 1e-2, 1e-3
"""Muon's learning rate, and AdamW's for embeddings, biases and norms."""
TEXT_SCALE = 0.2
"""The text encoder's learning rates relative to the UNet's, since it is pretrained on captions."""
AVERAGED, AVERAGED_EVERY = 0.1, 8
"""The horizon of the average of weights, as a fraction of all steps, and the steps between two of its updates."""


@dataclass(frozen=True)
class DenoiserRecipe:
    """The denoiser's training configuration.

    `decay` is the final fraction of the steps, in which the learning rate decays; `thing_weight` the additional loss
    weight of items' cells; `scene_weight` the weight of the scene head's loss; `attention` one of `ATTENTION`;
    `compile` needs minutes and a C++ compiler and saves a fifth of every step. `name` is that of the checkpoint.
    """

    steps: int = STEPS
    decay: float = 0.25
    attention: str = "up"
    thing_weight: float = 4.0
    scene_weight: float = 0.05
    compile: bool = False
    name: str = "denoiser"


def build_unet(attention: str = "up", cross_width: int = 192) -> UNet2DConditionModel:
    """The untrained UNet: attention at 8x8 and 4x4, and at 16x16 by `ATTENTION`."""
    first = "CrossAttnDownBlock2D" if attention == "both" else "DownBlock2D"
    last = "UpBlock2D" if attention == "neither" else "CrossAttnUpBlock2D"
    return UNet2DConditionModel(
        sample_size=SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=(first, "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", last),
        cross_attention_dim=cross_width,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )


class Denoiser(nn.Module):
    """The models that are trained together, as one module for the optimizer and the average."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel):
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet
        self.scene_head = SceneHead(unet.config["block_out_channels"][1])

    @contextmanager
    def features(self) -> Iterator[list[Tensor]]:
        """While open, collects what the middle upward block gives at each call of the UNet, (n, channels, 16, 16)."""
        kept: list[Any] = []
        hook = self.unet.up_blocks[1].register_forward_hook(lambda _module, _inputs, output: kept.append(output))
        try:
            yield kept
        finally:
            hook.remove()


Predict = Callable[..., tuple[Tensor]]


def velocity_errors(
    model: Denoiser, predict: Predict, ids: Tensor, latents: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """The squared error of the velocity (Salimans and Ho, 2022, appendix D) in each cell, (n, 1, 16, 16).

    `predict` is the model's UNet, or a compiled one.
    """
    scheduler: Any = DDPMScheduler(**pipeline.SCHEDULE)
    with torch.autocast(ids.device.type, torch.bfloat16):
        context = model.text_encoder(ids).last_hidden_state
        (predicted,) = predict(scheduler.add_noise(latents, noise, timesteps), timesteps, context, return_dict=False)
    wanted = scheduler.get_velocity(latents, noise, timesteps)
    return (predicted.float() - wanted).square().mean(1, keepdim=True)


def loss(
    model: Denoiser, predict: Predict, ids: Tensor, batch: Batch, thing_weight: float, scene_weight: float
) -> Tensor:
    """The mean error at random timesteps, with the additional weight `thing_weight` for items' cells, plus
    `scene_weight` times the loss of the scene head.
    """
    timesteps = draw_timesteps(len(ids), 1000, torch.default_generator).to(ids.device)
    with model.features() as features:
        error = velocity_errors(model, predict, ids, batch.latents, torch.randn_like(batch.latents), timesteps)
    weights = 1 + thing_weight * batch.covered
    denoising = ((error * weights).mean((1, 2, 3)) / weights.mean((1, 2, 3))).mean()
    if not scene_weight:
        return denoising
    with torch.autocast(ids.device.type, torch.bfloat16):
        return denoising + scene_weight * model.scene_head.loss(features[0], batch.cells)


@torch.no_grad()
def validation(model: Denoiser, tokenizer: CLIPTokenizer, batch: Batch) -> dict[str, float]:
    """The mean error of all cells and that of items' cells, with fixed noise and timesteps."""
    generator, count = torch.Generator().manual_seed(1), len(batch.texts)
    noise = torch.randn(batch.latents.shape, generator=generator).to(batch.latents.device)
    timesteps = torch.linspace(10, 990, count).long()[torch.randperm(count, generator=generator)].to(noise.device)
    rows = []
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        ids = tokens(tokenizer, batch.texts[part]).to(noise.device)
        rows.append(velocity_errors(model, model.unet, ids, batch.latents[part], noise[part], timesteps[part]))
    error = torch.cat(rows)
    items = (error * batch.covered).sum() / batch.covered.sum()
    return {"validation_loss": error.mean().item(), "validation_items": items.item()}


def train(
    folder: Path,
    autoencoder: AutoencoderKL,
    start: Denoiser,
    tokenizer: CLIPTokenizer,
    device: str,
    recipe: DenoiserRecipe,
    log_folder: Path | None = None,
) -> Denoiser:
    """Trains `start`, and returns the averaged weights; resumes from `folder`. With `log_folder` a training log is
    written there.
    """
    torch.manual_seed(0)
    start.unet.set_attn_processor(AttnProcessor2_0() if device == "cuda" else AttnProcessor())
    model = channels_last(start, device)
    predict: Any = torch.compile(model.unet) if recipe.compile else model.unet
    batches = BatchSampler(folder, autoencoder, device)
    average = EMAWeights(model, max(0.0, 1 - 1 / (AVERAGED * recipe.steps)), AVERAGED_EVERY)
    optimizer = MuonWithAdamW(
        [(model.unet, 1.0), (model.text_encoder, TEXT_SCALE), (model.scene_head, 1.0)], PEAK_RATE, OTHER_RATE
    )

    def rate(step: int) -> float:
        return learning_rate(step, recipe.steps, PEAK_RATE, warmup=300, decay=recipe.decay)

    def update(step: int) -> Tensor:
        set_learning_rate(optimizer, rate(step))
        batch = batches.draw(step, step_rng(13, step))
        ids = tokens(tokenizer, batch.texts).to(device)
        value = loss(model, predict, ids, batch, recipe.thing_weight, recipe.scene_weight)
        optimizer_step(value, model, optimizer, average, step)
        return value

    training_log = _training_log(model, average, batches, tokenizer, log_folder, rate) if log_folder else None
    parts = {"model": model, "optimizer": optimizer, "average": average}
    run_stage(recipe.name, folder, recipe.steps, parts, update, training_log)
    average.copy_to(model)
    return model.eval()


def _training_log(
    model: Denoiser,
    average: EMAWeights,
    batches: BatchSampler,
    tokenizer: CLIPTokenizer,
    folder: Path,
    rate: Callable[[int], float],
) -> TrainingLog:
    unseen = batches.unseen()

    def measure() -> Mapping[str, float]:
        with average.applied_to(model):
            return validation(model, tokenizer, unseen)

    def sheet() -> Image.Image:
        with average.applied_to(model):
            parts = pipeline.assemble(batches.autoencoder, model.text_encoder, model.unet, tokenizer)
            return pipeline.sheet(parts)

    return TrainingLog(folder, BATCH, rate, measure, sheet, seconds=600)
