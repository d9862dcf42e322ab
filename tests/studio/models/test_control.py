"""Conditions: what we generate with a T2IAdapter or a ControlNet is what diffusers' own pipelines generate."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLAdapterPipeline,
    StableDiffusionXLControlNetPipeline,
    T2IAdapter,
)
from PIL import Image

from concepts.errors import StudioError
from studio.models.base_model import Base, generate, load_base
from studio.models.control import ControlCondition, load_control_model, with_control
from studio.models.img2img.init_image import InitImage
from studio.models.regions.region import Region
from studio.models.sampling_settings import SamplingSettings
from studio.serving.serving import Request, Serving

SETTINGS = SamplingSettings(num_inference_steps=2, guidance_scale=3.0, guidance_rescale=0.0)


@pytest.fixture
def picture() -> Image.Image:
    """A white stroke on black."""
    drawn = Image.new("RGB", (40, 40))
    drawn.paste("white", (5, 10, 35, 20))
    return drawn


@pytest.fixture(params=["sd", "xl"])
def any_base(request, tiny_folder: Path, xl_folder: Path, make_unet: Callable, monkeypatch) -> Base:
    monkeypatch.setattr(Base, "autocast", lambda self: nullcontext())
    if request.param == "xl":
        return load_base(str(xl_folder), device="cpu")
    return attending_first(load_base(str(tiny_folder), device="cpu"), make_unet)


def attending_first(base: Base, make_unet: Callable) -> Base:
    """The base with attention in the first block, as Stable Diffusion has it and its T2IAdapters expect it."""
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    torch.manual_seed(3)
    base.pipeline.unet = make_unet(**blocks).eval().requires_grad_(False)
    return Base(base.name, base.pipeline)


def adapter_of(base: Base, channels: int = 1) -> T2IAdapter:
    torch.manual_seed(4)
    if len(base.text_encoders) == 2:
        return T2IAdapter(channels, [16, 32, 32, 32], 1, 4, "full_adapter_xl")
    return T2IAdapter(channels, [16, 32], 1, 2)


def control_net_of(base: Base) -> ControlNetModel:
    torch.manual_seed(5)
    net = ControlNetModel.from_unet(base.pipeline.unet, conditioning_embedding_out_channels=(8, 8))
    for parameter in net.parameters():  # its zero convolutions would hide it
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return net.requires_grad_(False).eval()


def theirs(pipeline: Any, picture: Image.Image, **options: Any) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    generated = pipeline(
        "a cat", negative_prompt="rain", image=picture, num_inference_steps=2, guidance_scale=3.0, height=16, width=16,
        generator=[torch.Generator().manual_seed(1)], **options,
    ).images[0]  # fmt: skip
    return np.asarray(generated, float)


def ours(base: Base, conditions: list[ControlCondition]) -> np.ndarray:
    settings = SamplingSettings(num_inference_steps=2, guidance_scale=3.0, guidance_rescale=0.0, negative_prompt="rain")
    with with_control(base, conditions):
        return np.asarray(generate(base, "a cat", [1], settings)[0], float)


def parts_of(base: Base) -> dict[str, Any]:
    names = ("vae", "unet", "tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2", "scheduler")
    found = {name: getattr(base.pipeline, name) for name in names if hasattr(base.pipeline, name)}
    return found if len(base.text_encoders) == 2 else {**found, "safety_checker": None, "feature_extractor": None}


def diffusers_own(base: Base, of_one: Any, of_two: Any, **model: Any) -> Any:
    """diffusers' pipeline with the base's parts, for one text encoder or for SDXL's two."""
    if len(base.text_encoders) == 2:
        return of_two(**parts_of(base), **model)
    return of_one(**parts_of(base), **model, requires_safety_checker=False)


@pytest.mark.filterwarnings("ignore:.*decode_latents")
def test_a_t2i_adapter(any_base: Base, picture: Image.Image, tmp_path: Path):
    adapter_of(any_base).save_pretrained(tmp_path / "sketch")
    model: Any = load_control_model(any_base, str(tmp_path / "sketch"))
    pipeline = diffusers_own(any_base, StableDiffusionAdapterPipeline, StableDiffusionXLAdapterPipeline, adapter=model)
    expected = theirs(
        pipeline, picture.convert("L").resize((16, 16), Image.Resampling.LANCZOS), adapter_conditioning_scale=0.8
    )
    found = ours(any_base, [ControlCondition(picture, model, 0.8)])
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - ours(any_base, [])).max() > 1


def test_a_control_net(any_base: Base, picture: Image.Image, tmp_path: Path):
    control_net_of(any_base).save_pretrained(tmp_path / "pose")
    model: Any = load_control_model(any_base, str(tmp_path / "pose"))
    kinds = StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
    pipeline = diffusers_own(any_base, *kinds, controlnet=model)
    expected = theirs(pipeline, picture, controlnet_conditioning_scale=0.7)
    found = ours(any_base, [ControlCondition(picture, model, 0.7)])
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - ours(any_base, [])).max() > 1


def test_both_at_once_with_regions_and_unmerged(
    base: Base, picture: Image.Image, make_unet: Callable, make_concept: Callable
):
    base = attending_first(base, make_unet)
    hooks = dict(base.pipeline.unet._forward_pre_hooks)
    conditions = [ControlCondition(picture, adapter_of(base)), ControlCondition(picture, control_net_of(base))]
    region = Region("a dog", 0, 0, 1, 0.5)
    with with_control(base, conditions):
        both = generate(base, "a cat", [1], SETTINGS, [region])[0]
        with Serving(base, {"rex": make_concept(base, "rex")}) as serving:
            request = Request("a cat", 1, {}, {"rex": Region("<rex>", 0, 0, 1, 0.5)})
            served = serving.generate([request], SETTINGS)[0]
    plain = generate(base, "a cat", [1], SETTINGS, [region])[0]
    with with_control(base, conditions[:1]):
        one = generate(base, "a cat", [1], SETTINGS, [region])[0]
    assert len({picture.tobytes() for picture in (both, plain, one, served)}) == 4
    assert base.pipeline.unet._forward_pre_hooks.keys() == hooks.keys()


def test_images_of_another_size_follow_with_a_start_image(any_base: Base, picture: Image.Image):
    start, settings = InitImage(Image.new("RGB", (64, 32), "green")), SETTINGS.model_copy(update={"size": (32, 16)})
    images = []
    for model in (None, adapter_of(any_base), control_net_of(any_base)):
        conditions = [ControlCondition(picture, model)] if model else []
        with with_control(any_base, conditions, (32, 16)):
            images += generate(any_base, "a cat", [1], settings, init_image=start)
    assert {image.size for image in images} == {(32, 16)}
    assert len({image.tobytes() for image in images}) == 3


def test_models_of_other_bases_are_refused(base: Base, tmp_path: Path):
    T2IAdapter(1, [32, 64], 1, 2).save_pretrained(tmp_path / "wide")
    T2IAdapter(1, [16, 32, 32, 32], 1, 2, "full_adapter_xl").save_pretrained(tmp_path / "xl")
    for source in ("wide", "xl"):
        with pytest.raises(StudioError, match=f"{source} is for another base"):
            load_control_model(base, str(tmp_path / source))
    base.pipeline.vae.save_pretrained(tmp_path / "vae")
    for source in ("none", "vae"):
        with pytest.raises(StudioError, match="is not a T2I-Adapter or ControlNet"):
            load_control_model(base, str(tmp_path / source))
