import numpy as np
import pytest
import torch
from pydantic import ValidationError

from concepts.errors import StudioError
from studio.models.base_model import Base, generate, generate_latents
from studio.models.sampling import check_images
from studio.models.sampling_settings import SamplingSettings
from studio.models.scheduler_names import SCHEDULERS

# diffusers' schedulers turn tensors into arrays in a way that NumPy 2 warns of
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_samples_and_counts_its_steps(base: Base, name: str):
    own, steps = base.pipeline.scheduler, []
    settings = SamplingSettings(scheduler=name.upper(), num_inference_steps=3)
    (image,) = generate(base, "a cat", [1], settings, on_step=lambda: steps.append(1))
    assert len(steps) == 3
    assert base.pipeline.scheduler is own
    assert np.asarray(image).std() > 0


def test_a_scheduler_of_another_name_is_refused():
    with pytest.raises(ValidationError, match=r"there is no scheduler 'magic'; choose from ddim, "):
        SamplingSettings(scheduler="magic")


def test_schedulers_differ(base: Base):
    images = {
        name: generate(base, "a cat", [1], SamplingSettings(scheduler=name, num_inference_steps=3))[0].tobytes()
        for name in (None, "ddim", "euler", "euler a")
    }
    assert len(set(images.values())) >= 3


def test_karras_levels_need_a_highest_one(base: Base, monkeypatch):
    own = base.pipeline.scheduler
    zero = type(own).from_config(own.config, rescale_betas_zero_snr=True)
    monkeypatch.setattr(base.pipeline, "scheduler", zero)
    with pytest.raises(StudioError, match=r"dpm\+\+ 2m karras does not work .* Choose dpm\+\+ 2m\."):
        generate(base, "a cat", [1], SamplingSettings(scheduler="dpm++ 2m karras", num_inference_steps=1))
    assert base.pipeline.scheduler is zero


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_an_image_that_is_nan_is_an_error(base: Base, part: str):
    with torch.no_grad():
        (base.pipeline.unet if part == "unet" else base.pipeline.vae.decoder).conv_in.weight.fill_(float("nan"))
    settings = SamplingSettings(num_inference_steps=2)
    with pytest.raises(StudioError, match="The image of seed 7 is NaN, so it was not saved"):
        generate(base, "a cat", [7], settings)
    if part == "unet":
        with pytest.raises(StudioError, match="The image of seed 7 is NaN"):
            generate_latents(base, ["a cat"], [7], settings)


def test_only_the_broken_image_is_named():
    latents = torch.zeros(3, 4, 2, 2)
    latents[1, 2, 0, 1] = float("inf")
    with pytest.raises(StudioError, match="The image of seed 5 is NaN"):
        check_images(latents, [4, 5, 6])
    check_images(latents[[0, 2]].numpy(), [4, 6])
