"""The base and the scorer that ship with the studio, loaded by diffusers, transformers and open_clip alone."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTokenizer

from studio.bundled import TOYBOX, TOYBOX_CLIP
from studio.models.base_model import Base, generate, load_base
from studio.models.sampling_settings import SamplingSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toybox() -> Base:
    return load_base("toybox", device="cpu")


def test_diffusers_opens_the_base_and_generates():
    pipeline = StableDiffusionPipeline.from_pretrained(TOYBOX, local_files_only=True, dtype=torch.float32)
    kinds = (AutoencoderKL, CLIPTextModel, CLIPTokenizer, UNet2DConditionModel)
    assert all(any(isinstance(part, kind) for part in pipeline.components.values()) for kind in kinds)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    generated: Any = pipeline("a blue cat on the beach", num_inference_steps=2, generator=generator)
    (picture,) = generated.images
    assert picture.size == (128, 128)
    assert np.asarray(picture).std() > 5


def test_the_prompt_decides_what_the_base_generates(toybox: Base):
    def mean_colour(prompt: str) -> np.ndarray:
        return np.asarray(generate(toybox, prompt, [0], SamplingSettings(num_inference_steps=4))[0], dtype=float).mean(
            (0, 1)
        )

    red = mean_colour("a photo of a cat on a plain red background")
    blue = mean_colour("a photo of a cat on a plain blue background")
    assert red[0] - red[2] > blue[0] - blue[2] + 40


def test_the_base_has_room_for_concepts_of_rank_8(toybox: Base):
    assert toybox.side == 128
    assert toybox.decomposition.capacity >= 16 * 8


def test_open_clip_opens_the_scorer():
    place = f"local-dir:{TOYBOX_CLIP}"
    loaded: Any = open_clip.create_model_from_pretrained(place)
    model, preprocess = loaded
    texts = open_clip.get_tokenizer(place)(["a cat", "a vase"])
    image = preprocess(Image.new("RGB", (300, 200)))[None]
    assert image.shape == (1, 3, 128, 128)
    with torch.inference_mode():
        assert model.encode_text(texts).shape == (2, model.encode_image(image).shape[1])


def test_base_and_scorer_are_light():
    files = [file for folder in (TOYBOX, TOYBOX_CLIP) for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 80 * 10**6
    for file in (file for file in files if file.suffix == ".safetensors"):
        with safe_open(file, "pt") as weights:
            kinds = {weights.get_tensor(key).dtype for key in weights.keys()}  # noqa: SIM118 (no mapping)
        assert kinds <= {torch.float16, torch.bfloat16, torch.int64}, file


def test_no_file_of_the_repository_is_heavy():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    sizes = {name: (ROOT / name).stat().st_size for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    assert len(sizes) > 100
    assert {name: size for name, size in sizes.items() if size >= 100 * 10**6} == {}
