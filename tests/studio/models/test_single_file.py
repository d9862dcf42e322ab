"""Single-file checkpoints, opened without a network."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from concepts.errors import StudioError
from studio.formats.full_checkpoint import single_file_bytes
from studio.models.base_model import Base, load_base
from studio.models.checkpoints.configurations import clip_tokenizer, write_configurations


@pytest.mark.parametrize("kind", ["sd", "sd2", "xl"])
def test_a_checkpoint_of_every_family(
    kind: str, tiny_folder: Path, xl_folder: Path, tmp_path: Path, monkeypatch, state_of: Callable
):
    folder = xl_folder if kind == "xl" else tiny_folder
    if kind == "sd2":
        folder = tmp_path / "open-clip"
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
        pipeline.text_encoder.config.hidden_act = "gelu"
        pipeline.save_pretrained(folder)
    base = load_base(str(folder), device="cpu")
    file = tmp_path / "model.safetensors"
    file.write_bytes(single_file_bytes(base, None))
    (tmp_path / "model").symlink_to(folder)
    loaded = load_base(str(file), device="cpu")
    assert isinstance(loaded.pipeline, StableDiffusionXLPipeline) is (kind == "xl")
    assert state_of(loaded)["tensors"] == state_of(base)["tensors"]
    assert loaded.decomposition.fingerprint == base.decomposition.fingerprint


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_the_configurations_are_the_published_sizes(family: str, tmp_path: Path):
    write_configurations(family, tmp_path)
    expected = {"sd15": (859.5, 123.1), "sd21": (865.9, 340.4), "sdxl": (2567.5, 123.1)}[family]
    read: Any = {part: json.loads((tmp_path / part / "config.json").read_text()) for part in ("unet", "vae")}
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel.from_config(read["unet"]), AutoencoderKL.from_config(read["vae"])
        text = CLIPTextModel(CLIPTextConfig.from_pretrained(tmp_path / "text_encoder"))
    sizes = [sum(p.numel() for p in model.parameters()) / 1e6 for model in (unet, text, vae)]  # pyright: ignore[reportAttributeAccessIssue]
    assert sizes == pytest.approx([*expected, 83.7], abs=0.1)
    if family == "sdxl":
        second = CLIPTextConfig.from_pretrained(tmp_path / "text_encoder_2")
        assert (second.projection_dim, second.hidden_act) == (1280, "gelu")
        assert CLIPTokenizer.from_pretrained(tmp_path / "tokenizer_2").pad_token_id == 0


def test_the_tokenizer_is_clips():
    tokenizer, known = clip_tokenizer(), open_clip.get_tokenizer("ViT-B-32")
    texts = ["a photo of a cat", "Déjà vu: 12 dogs' bones!", "<rex> on the beach 🏖"]
    ours = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    theirs = known(texts)
    ends = (theirs == 49407).int().argmax(1)
    for one, other, end in zip(ours, theirs, ends, strict=True):
        assert one[: end + 1].tolist() == other[: end + 1].tolist()
    assert (len(tokenizer), tokenizer.model_max_length, tokenizer.pad_token_id) == (49408, 77, 49407)
    assert clip_tokenizer("!").pad_token_id == 0


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("model.ckpt", b"x", "model.ckpt is a checkpoint that can run any code"),
        ("model.safetensors", b"12345678", "truncated"),
        ("lora.safetensors", None, "is no checkpoint of Stable Diffusion: its keys look like x"),
        ("part.safetensors", "part", "has no UNet and no autoencoder"),
    ],
)
def test_other_files_are_refused(name: str, data: bytes | str | None, sentence: str, tmp_path: Path):
    if isinstance(data, bytes):
        (tmp_path / name).write_bytes(data)
    else:
        mark = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
        save_file({mark if data else "x": torch.zeros(768)}, tmp_path / name)
    with pytest.raises(StudioError, match=sentence):
        load_base(str(tmp_path / name))


def test_a_folder_of_another_kind_is_refused(tmp_path: Path, base: Base):
    with pytest.raises(StudioError, match="so it is no diffusers folder"):
        load_base(str(tmp_path))
