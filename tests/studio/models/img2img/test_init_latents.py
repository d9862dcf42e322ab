"""Sampling from a start image: what we generate is what diffusers' own img2img and inpainting pipelines generate."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image
from torch import Tensor

from studio.models.base_model import Base, generate, load_base
from studio.models.img2img.init_image import InitImage
from studio.models.regions.region import Region
from studio.models.sampling import scheduler_applied
from studio.models.sampling_settings import SamplingSettings
from studio.models.scheduler_names import SCHEDULERS
from studio.serving.serving import Request, Serving

# diffusers' schedulers turn tensors into arrays in a way that NumPy 2 warns of
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")
STEPS = 6


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Float32, so that what should be equal is."""
    monkeypatch.setattr(Base, "autocast", lambda _: nullcontext())


@pytest.fixture
def picture() -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(levels)


@pytest.fixture
def left() -> Image.Image:
    """A mask of the left half, white."""
    mask = Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 8, 16))
    return mask


@pytest.fixture(params=["sd", "xl"])
def any_base(request, base: Base, xl_folder: Path) -> Base:
    return load_base(str(xl_folder), device="cpu") if request.param == "xl" else base


def settings(scheduler: str | None = None, **options: Any) -> SamplingSettings:
    return SamplingSettings(
        **{
            "scheduler": scheduler,
            "num_inference_steps": STEPS,
            "guidance_scale": 3.0,
            "guidance_rescale": 0.0,
            "negative_prompt": "rain",
            **options,
        }
    )


def ours(base: Base, start: InitImage, seed: int = 1, **options: Any) -> np.ndarray:
    return np.asarray(generate(base, "a cat", [seed], settings(**options), init_image=start)[0], float)


def theirs(base: Base, kinds: tuple[Any, Any], scheduler: str, known: Tensor, **options: Any) -> np.ndarray:
    """What diffusers' pipeline for one or for two text encoders generates, with these latents of the start image."""
    two = len(base.text_encoders) == 2
    pipeline = kinds[two].from_pipe(base.pipeline)
    pipeline.set_progress_bar_config(disable=True)
    if "mask_image" in options:
        pipeline._encode_vae_image = lambda image, generator: known
    else:
        options["image"] = known
    with scheduler_applied(pipeline, scheduler):
        generated = pipeline(
            "a cat", negative_prompt="rain", num_inference_steps=STEPS, guidance_scale=3.0,
            generator=[torch.Generator().manual_seed(1)], **options,
        ).images[0]  # fmt: skip
    return np.asarray(generated, float)


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "euler", "euler a", "heun", "dpm2", "dpm++ 2m", "unipc"])
def test_img2img_is_that_of_diffusers(any_base: Base, picture: Image.Image, scheduler: str):
    known = any_base.encode_pictures([picture])
    kinds = StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
    expected = theirs(any_base, kinds, scheduler, known, strength=0.7)
    found = ours(any_base, InitImage(picture, None, 0.7), scheduler=scheduler)
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - ours(any_base, InitImage(picture, None, 0.9), scheduler=scheduler)).max() > 1


@pytest.mark.parametrize("strength", [0.7, 1.0])
@pytest.mark.parametrize("scheduler", ["ddim", "euler a", "dpm++ 2m"])
def test_inpainting_is_that_of_diffusers(
    any_base: Base, picture: Image.Image, left: Image.Image, scheduler: str, strength: float
):
    """Where the mask is white: elsewhere diffusers leaves what the autoencoder makes of the picture."""
    kinds = StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline
    expected = theirs(
        any_base, kinds, scheduler, any_base.encode_pictures([picture]), image=picture, mask_image=left,
        strength=strength, height=16, width=16,
    )  # fmt: skip
    found = ours(any_base, InitImage(picture, left, strength, mask_blur=0), scheduler=scheduler)
    assert np.abs(found - expected)[:, :8].max() <= 1
    assert np.array_equal(found[:, 8:], np.asarray(picture, float)[:, 8:])


@pytest.mark.parametrize("skipped", [0, 1, 4])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_step_has_the_noise_that_its_timestep_says(
    base: Base, picture: Image.Image, scheduler: str, skipped: int, monkeypatch
):
    """A model that knows the picture gives it back, as from noise alone, if what it is asked has the noise level of the
    timestep.
    """
    known = base.encode_pictures([picture])
    signal = base.pipeline.scheduler.alphas_cumprod

    def knowing(noisy: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        exact = float(timestep)
        below = min(int(exact), len(signal) - 2)
        levels = ((1 - signal) / signal).sqrt().log()
        sigma = torch.lerp(levels[below], levels[below + 1], exact - below).exp()
        share = 1 / (sigma**2 + 1).sqrt()
        noise = (noisy - share * known) / (sigma * share)
        return (share * noise - sigma * share * known,)

    monkeypatch.setattr(base.pipeline.unet, "forward", knowing)
    steps: list[int] = []
    options = settings(scheduler, num_inference_steps=10, guidance_scale=1.0)
    (expected,) = generate(base, "a cat", [1], options)
    start = InitImage(picture, None, (10 - skipped) / 10)
    (found,) = generate(base, "a cat", [1], options, on_step=lambda: steps.append(1), init_image=start)
    assert len(steps) == 10 - skipped
    assert np.abs(np.asarray(found, float) - np.asarray(expected, float)).mean() < 2


def test_at_full_strength_the_start_image_has_no_influence(any_base: Base, picture: Image.Image):
    own = any_base.pipeline.scheduler
    (plain,) = generate(any_base, "a cat", [1], settings())
    assert ours(any_base, InitImage(picture, None, 1.0)).tolist() == np.asarray(plain, float).tolist()
    assert any_base.pipeline.scheduler is own


def test_guidance_rescale_acts_with_a_start_image(base: Base, picture: Image.Image):
    start = InitImage(picture, None, 0.8)
    assert np.abs(ours(base, start, guidance_rescale=1.0) - ours(base, start, guidance_rescale=0.0)).max() > 1


def test_an_image_depends_on_its_own_seed_alone(base: Base, picture: Image.Image, left: Image.Image):
    start = InitImage(picture, left, 0.8)
    images = generate(base, "a cat", [1, 2, 3], settings(batch_size=2), init_image=start)
    for seed, image in zip([1, 2, 3], images, strict=True):
        assert np.abs(np.asarray(image, float) - ours(base, start, seed)).max() <= 1
    assert len({image.tobytes() for image in images}) == 3


def test_two_concepts_unmerged_inside_a_mask(base: Base, picture: Image.Image, left: Image.Image, make_concept):
    concepts = {"rex": make_concept(base, "rex"), "tom": make_concept(base, "tom", seed=2)}
    top, bottom = Region("a <rex>", 0, 0, 0.5, 1), Region("a <tom>", 0.5, 0, 1, 1)
    requests = [
        Request("a <rex>, <tom>", 3, {"rex": 1.0, "tom": 1.0}, {"rex": top, "tom": bottom}),
        Request("a <rex>, <tom>", 3, {"rex": 1.0, "tom": 1.0}),
        Request("a cat", 3),
    ]
    with Serving(base, concepts) as serving:
        images = serving.generate(requests, settings(), init_image=InitImage(picture, left, mask_blur=0))
    assert len({image.tobytes() for image in images}) == 3
    for image in images:
        assert np.array_equal(np.asarray(image)[:, 8:], np.asarray(picture)[:, 8:])


def test_a_start_image_that_is_wide_gives_wide_images_with_regions(any_base: Base, make_concept: Callable):
    wide = Image.new("RGB", (64, 32), "green")
    region = Region("a dog", 0, 0, 1, 0.5)
    images = [
        generate(any_base, "a cat", [1], settings(), regions, init_image=InitImage(wide))[0]
        for regions in ((), (region,))
    ]
    width, height = images[0].size
    assert width > height
    assert images[0].tobytes() != images[1].tobytes()
