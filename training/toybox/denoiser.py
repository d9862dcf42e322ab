"""Stage 4 of toybox: the text encoder and the UNet, trained together on latents and captions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.losses import denoising_loss, draw_timesteps
from training.toybox.autoencoder import LATENT_CHANNELS
from training.toybox.captions import caption
from training.toybox.latents import encoded
from training.toybox.layout import silhouettes
from training.toybox.probe import Probe
from training.toybox.stage import Average, channels_last, descend, learning_rate, run_stage, set_learning_rate, step_rng

TEXT_WIDTH = 192
TEXT_LAYERS = 4
CHANNELS = (64, 128, 256)
SIZE = 16
BATCH = 32
SHARDS = 12
SPREADS = (0.25, 1.0)
"""In half of the scenes things keep nearly to their places: their shapes are learned several times sooner so."""
THING_WEIGHT = 4.0
"""How much more the cells of things count than the background's, which is learned long before them."""
STEPS = 20640
PEAK_RATE = 6e-4
DECAY = 0.15
UNCONDITIONAL = 0.1
SITES = ("attention", "up_convolution")
"""What a concept adapts: attention alone learns shapes poorly where there is so little of it."""
SCHEDULE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "steps_offset": 1,  # of no effect with trailing steps, but diffusers warns without it
}


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The untrained text encoder for this tokenizer."""
    marks: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        **marks,
    )
    model = CLIPTextModel(config)
    model.set_attn_implementation("eager")  # on a CPU the backward pass of SDPA is several times slower
    return model


def build_unet() -> UNet2DConditionModel:
    """The untrained UNet: convolutions alone at 16x16, attention at 8x8 and 4x4."""
    return UNet2DConditionModel(
        sample_size=SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )


class Denoiser(nn.Module):
    """The two models that are trained together, as one module for the optimizer and the average."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel):
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet


@dataclass(frozen=True)
class Lesson:
    """One batch: captions, scaled latents (n, channels, 16, 16), things and their cover by cell (n, 16, 16)."""

    texts: list[str]
    latents: Tensor
    things: Tensor
    covered: Tensor


class Lessons:
    """What the denoiser learns from: scaled latents, captions, and what the renderer knows to be where."""

    def __init__(self, folder: Path, autoencoder: AutoencoderKL, device: str):
        self.device = device
        parts = [encoded(folder, autoencoder, SHARDS, device, spread) for spread in SPREADS]
        self.scenes = [scene for scenes, _ in parts for scene in scenes]
        self.latents = torch.cat([latents for _, latents in parts])
        self.scale = 1 / self.latents.float().std().item()
        things, covered = zip(*(silhouettes(scene, SIZE) for scene in self.scenes), strict=True)
        self.things, self.covered = torch.from_numpy(np.stack(things)), torch.from_numpy(np.stack(covered))

    def draw(self, rng: np.random.Generator) -> Lesson:
        """The next batch."""
        chosen = rng.integers(len(self.scenes), size=BATCH)
        texts = ["" if rng.random() < UNCONDITIONAL else caption(self.scenes[i], rng).text for i in chosen]
        clean = (
            (self.latents[chosen].float() * self.scale).to(self.device).contiguous(memory_format=torch.channels_last)
        )
        return Lesson(texts, clean, self.things[chosen].long().to(self.device), self.covered[chosen].to(self.device))


def losses(
    model: Denoiser, predict: Callable[..., tuple[Tensor]], probe: Probe, ids: Tensor, lesson: Lesson
) -> tuple[Tensor, Tensor]:
    """How far the denoiser is off on average, and the probe; `predict` is the model's UNet, or a compiled one."""
    timesteps = draw_timesteps(len(ids), 1000, torch.default_generator).to(ids.device)
    with torch.autocast(ids.device.type, torch.bfloat16):
        context = model.text_encoder(ids).last_hidden_state
        loss = denoising_loss(
            DDPMScheduler(**SCHEDULE),
            lambda x, t: predict(x, t, context, return_dict=False)[0],
            lesson.latents,
            torch.randn_like(lesson.latents),
            timesteps,
            1 + THING_WEIGHT * lesson.covered[:, None],
        )
        return loss.mean(), probe.loss(lesson.things, timesteps)


def train(
    folder: Path,
    autoencoder: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    device: str,
    steps: int = STEPS,
    start: Denoiser | None = None,
    faster: bool = False,
) -> tuple[Denoiser, float]:
    """Trains from scratch or from `start`; resumes from `folder`.

    Returns the averaged models and the factor that scales latents to unit variance. `faster` compiles the UNet, which
    takes minutes and a C++ compiler and then saves a fifth of every step.
    """
    lessons = Lessons(folder, autoencoder, device)
    torch.manual_seed(0)
    model = start or Denoiser(build_text_encoder(tokenizer), build_unet())
    model.unet.set_attn_processor(AttnProcessor2_0() if device == "cuda" else AttnProcessor())
    model = channels_last(model, device)
    predict = torch.compile(model.unet) if faster else model.unet
    probe, average = Probe(model.unet).to(device), Average(model)
    everything = [*model.parameters(), *probe.parameters()]
    optimizer = torch.optim.AdamW(everything, PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

    def update(step: int) -> Tensor:
        set_learning_rate(optimizer, learning_rate(step, steps, PEAK_RATE, decay=DECAY))
        lesson = lessons.draw(step_rng(13, step))
        ids = tokenizer(lesson.texts, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(device)
        loss, seen = losses(model, predict, probe, ids, lesson)
        descend(loss + seen, model, optimizer, average, step, longest=1.0)
        return loss

    parts = {"model": model, "optimizer": optimizer, "average": average, "probe": probe}
    run_stage("denoiser", folder, steps, parts, update)
    probe.leave()
    average.copy_to(model)
    return model.eval(), lessons.scale
