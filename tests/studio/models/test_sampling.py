import numpy as np
import pytest
from pydantic import ValidationError

from concepts.errors import StudioError
from studio.models.base_model import Base, generate
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
