"""Stage 4 of toybox: the text encoder and the UNet, trained together on latents and captions."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.losses import denoising_loss
from training.toybox.autoencoder import LATENT_CHANNELS
from training.toybox.captions import caption
from training.toybox.latents import encoded
from training.toybox.probe import Probe, wanted_layouts
from training.toybox.stage import Average, channels_last, learning_rate, run_stage, set_learning_rate, step_rng

TEXT_WIDTH = 192
TEXT_LAYERS = 4
CHANNELS = (64, 128, 256)
BATCH = 64
SHARDS = 12
STEPS = 8000
PEAK_RATE = 6e-4
UNCONDITIONAL = 0.1
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
        sample_size=16,
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
    scenes, latents = encoded(folder, autoencoder, SHARDS, device)
    scale = 1 / latents.float().std().item()
    torch.manual_seed(0)
    model = start or Denoiser(build_text_encoder(tokenizer), build_unet())
    model.unet.set_attn_processor(AttnProcessor2_0() if device == "cuda" else AttnProcessor())
    model = channels_last(model, device)
    predict = torch.compile(model.unet) if faster else model.unet
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    probe = Probe(model.unet).to(device)
    probe_optimizer = torch.optim.AdamW(probe.parameters(), PEAK_RATE)
    wanted = wanted_layouts(scenes)
    average = Average(model)
    scheduler = DDPMScheduler(**SCHEDULE)

    def update(step: int) -> Tensor:
        rng = step_rng(13, step)
        set_learning_rate(optimizer, learning_rate(step, steps, PEAK_RATE))
        chosen = rng.integers(len(scenes), size=BATCH)
        texts = ["" if rng.random() < UNCONDITIONAL else caption(scenes[i], rng) for i in chosen]
        ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(device)
        clean = (latents[chosen].float() * scale).to(device).contiguous(memory_format=torch.channels_last)
        timesteps = torch.from_numpy(rng.integers(1000, size=BATCH)).to(device)
        with torch.autocast(device, torch.bfloat16):
            context = model.text_encoder(ids).last_hidden_state
            loss = denoising_loss(
                scheduler,
                lambda x, t: predict(x, t, context, return_dict=False)[0],
                clean,
                torch.randn_like(clean),
                timesteps,
            ).mean()
            seen = probe.loss(wanted[chosen].to(device), timesteps)
        (loss + seen).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in (optimizer, probe_optimizer):
            each.step()
            each.zero_grad()
        average.update(model, step)
        return loss

    parts = {"model": model, "optimizer": optimizer, "average": average}
    run_stage("denoiser", folder, steps, {**parts, "probe": probe, "probe_optimizer": probe_optimizer}, update)
    probe.leave()
    average.copy_to(model)
    return model.eval(), scale
