"""Makes toybox and its scorer from nothing, stage by stage, and writes them as ordinary model folders."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from studio.loading import DEFAULTS
from training.toybox import autoencoder, denoiser, detector, detector_training, identity, laws, scorer
from training.toybox.denoiser import Denoiser
from training.toybox.vocabulary import build_tokenizer, write_tokenizer

STAGES = ("autoencoder", "denoiser", "decoder", "scorer", "detector", "identity")


@dataclass(frozen=True)
class BaseRecipe:
    """How long each stage trains, in steps, and on which device."""

    autoencoder_steps: int = autoencoder.STEPS
    denoiser_steps: int = denoiser.STEPS
    decoder_steps: int = autoencoder.DECODER_STEPS
    scorer_steps: int = scorer.STEPS
    detector_steps: int = detector_training.STEPS
    identity_steps: int = identity.STEPS
    device: str = "cpu"
    compile: bool = False


def train_base(work: Path, target: Path, recipe: BaseRecipe, stages: tuple[str, ...], start: Path | None) -> None:
    """Runs the stages that are asked for, each from where it was left in `work`, and writes results to `target`.

    `target` gets the folders `toybox` (a diffusers pipeline) and `toybox-clip` (an open_clip model), and the detector's
    weights go to `detector.WEIGHTS`. With `start`, a folder of an earlier toybox, its autoencoder, tokenizer and
    models are where the training begins.
    """
    work.mkdir(parents=True, exist_ok=True)
    earlier = StableDiffusionPipeline.from_pretrained(start, dtype=torch.float32) if start else None
    tokenizer = earlier.tokenizer if earlier else build_tokenizer()
    if "scorer" in stages:
        model = scorer.train(work, tokenizer, recipe.device, recipe.scorer_steps)
        scorer.write(model.cpu(), tokenizer, target / scorer.NAME)
    if "detector" in stages:
        detector.write(detector_training.train(work, recipe.device, recipe.detector_steps).cpu())
    if "identity" in stages:
        identity.write(
            identity.train(work, recipe.device, recipe.identity_steps, detector.load()), target / scorer.NAME
        )
        laws.calibrate(target / scorer.NAME)
    if {"autoencoder", "denoiser", "decoder"} & set(stages):
        _train_pipeline(work, target / "toybox", recipe, stages, tokenizer, earlier)


def _train_pipeline(
    work: Path,
    target: Path,
    recipe: BaseRecipe,
    stages: tuple[str, ...],
    tokenizer: CLIPTokenizer,
    earlier: StableDiffusionPipeline | None,
) -> None:
    """Autoencoder and denoiser always, since each needs the one before; finished stages only load."""
    vae = earlier.vae if earlier else autoencoder.train(work, recipe.device, recipe.autoencoder_steps)
    start = Denoiser(earlier.text_encoder, earlier.unet) if earlier else None
    model, scale = denoiser.train(
        work, vae, tokenizer, recipe.device, recipe.denoiser_steps, start=start, faster=recipe.compile
    )
    vae.register_to_config(scaling_factor=scale)
    if "decoder" in stages:
        autoencoder.refine_decoder(work, vae, scale, recipe.device, recipe.decoder_steps)
    write_pipeline(vae.cpu(), model.cpu(), tokenizer, target)


def write_pipeline(vae: AutoencoderKL, model: Denoiser, tokenizer: CLIPTokenizer, target: Path) -> None:
    """Writes an ordinary diffusers folder in half precision."""
    scheduler = DDIMScheduler(**denoiser.SCHEDULE)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=scheduler,  # pyright: ignore[reportArgumentType]
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(target)
    write_tokenizer(tokenizer, target / "tokenizer")
    (target / DEFAULTS).write_text(json.dumps({"sites": denoiser.SITES}, indent=2) + "\n")
