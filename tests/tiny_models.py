"""Whole base models as diffusers folders, tiny and with random weights: fixtures, loaded by tests/conftest.py."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from studio.bundled import TOYBOX
from studio.formats.full_checkpoint import single_file_bytes
from studio.models.base_model import Base

SIDE = 16
"""The side of the tiny base's pictures, in pixels."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """The tiny base: pictures of 16x16, 40 sites, of which the narrowest has 32 columns."""
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny")


def write_tiny(folder: Path) -> Path:
    """The tiny base as this folder."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(TOYBOX / "tokenizer")
    parts: dict[str, Any] = {
        "tokenizer": tokenizer,
        "text_encoder": _text_encoder(tokenizer),
        "unet": _unet(),
        "vae": _autoencoder(),
        "scheduler": _scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
    }
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(folder)
    return folder


def write_whole_file(folder: Path, base: Base, tiny_folder: Path) -> Path:
    """The tiny base as a single file, model.safetensors, with its configurations in the folder model beside it."""
    (folder / "model.safetensors").write_bytes(single_file_bytes(base, None))
    shutil.copytree(tiny_folder, folder / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    return folder / "model.safetensors"


@pytest.fixture(scope="session")
def xl_folder(tmp_path_factory) -> Path:
    """A narrow SDXL with random weights: two text encoders, pooled prompt embeddings, and time ids."""
    torch.manual_seed(1)
    tokenizer = CLIPTokenizer.from_pretrained(TOYBOX / "tokenizer")
    parts: dict[str, Any] = {
        "tokenizer": tokenizer,
        "tokenizer_2": CLIPTokenizer.from_pretrained(TOYBOX / "tokenizer"),
        "text_encoder": _text_encoder(tokenizer),
        "text_encoder_2": CLIPTextModelWithProjection(
            _text_config(tokenizer, hidden_size=48, projection_dim=24, hidden_act="gelu")
        ),
        "unet": _unet(
            cross_attention_dim=80,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
        ),
        "vae": _autoencoder(),
        "scheduler": _scheduler(),
    }
    folder = tmp_path_factory.mktemp("models") / "xl"
    StableDiffusionXLPipeline(**parts).save_pretrained(folder)
    return folder


def _text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(_text_config(tokenizer))


def _text_config(tokenizer: CLIPTokenizer, **options: Any) -> CLIPTextConfig:
    special_tokens: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": tokenizer.model_max_length,
    }
    return CLIPTextConfig(**{**sizes, **special_tokens, **options})


@pytest.fixture(scope="session")
def make_unet() -> Callable[[], UNet2DConditionModel]:
    """A function that makes the tiny base's UNet with its own random weights."""
    return _unet


def _unet(**options: Any) -> UNet2DConditionModel:
    sizes: dict[str, Any] = {
        "sample_size": SIDE // 2,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
        "cross_attention_dim": 32,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DConditionModel(**{**sizes, **options})


def _autoencoder() -> AutoencoderKL:
    options: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 16),
        "norm_num_groups": 8,
        "sample_size": SIDE,
        "mid_block_add_attention": False,
    }
    return AutoencoderKL(**options)


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )
