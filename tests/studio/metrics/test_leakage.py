from contextlib import nullcontext

import pytest
from PIL import Image

from studio.composition.merge import applied
from studio.metrics.clip import load_scorer
from studio.metrics.leakage import drift, leak, leak_prompts
from studio.models.base_model import Base
from studio.models.sampling_settings import SamplingSettings

QUICK = SamplingSettings(num_inference_steps=2, batch_size=8)


def test_pictures_that_stay_as_they_are_do_not_drift():
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    found = drift(load_scorer(), pictures, pictures)
    assert found.distance == pytest.approx(0, abs=1e-6)
    assert found.pixels == 0


def test_drift_is_the_mean_over_pairs():
    scorer = load_scorer()
    red, blue, dark = (Image.new("RGB", (32, 32), colour) for colour in ((255, 0, 0), (0, 0, 255), (0, 0, 204)))
    found = drift(scorer, [red, blue], [blue, dark])
    assert found.pixels == pytest.approx((2 / 3 + 51 / 255 / 3) / 2)
    one, other, third = scorer.embed_pictures([red, blue, dark])
    assert found.distance == pytest.approx(1 - ((one @ other + other @ third) / 2).item(), abs=1e-6)


def test_the_prompts_name_the_class_word_or_something_else():
    prompts = leak_prompts(["cup", "dog", "cup"])
    assert prompts["class_word"][0] == "a photo of a cup"
    assert len(prompts["class_word"]) == 8
    assert all("cup" in prompt or "dog" in prompt for prompt in prompts["class_word"])
    assert len(prompts["unrelated"]) == 7
    assert not any("cup" in prompt or "dog" in prompt for prompt in prompts["unrelated"])


def test_a_leak_is_measured_on_the_same_seeds(base: Base, make_concept, state_of):
    scorer, prompts, before = load_scorer(), leak_prompts(["dog"]), state_of(base)
    for still in leak(base, nullcontext, scorer, prompts, QUICK).values():
        assert (still.distance, still.pixels) == (pytest.approx(0, abs=1e-6), 0)
    small, large = (
        leak(base, lambda c=c: applied(base, {"rex": c}), scorer, prompts, QUICK)
        for c in (make_concept(base, "rex", size=0.02), make_concept(base, "rex", size=0.3))
    )
    assert state_of(base) == before
    for kind in prompts:
        assert 0 < small[kind].pixels < large[kind].pixels
        assert large[kind].distance > 0
