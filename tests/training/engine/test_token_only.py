"""Methods that train the token and no layer: through training, merging, serving and continuing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from studio.adapters.concept_file import from_bytes, to_bytes
from studio.composition.merge import merged_concept
from studio.models.base_model import Base
from studio.models.sampling_settings import SamplingSettings
from studio.serving.serving import Request, Serving
from training.config.recipe import Recipe
from training.config.recipe_resolution import continued_recipe
from training.engine.trainer import Training, train_concept

PICTURES = [Image.new("RGB", (20, 20), colour) for colour in ("navy", "orange")]
SMALL: dict[str, Any] = {
    "steps": 3, "batch_size": 4, "num_class_images": 4, "mixed_precision": "float32", "lr_warmup_steps": 0
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Class images, generated once for this file."""
    return tmp_path_factory.mktemp("priors")


@pytest.fixture
def train(base: Base, cache: Path) -> Callable[..., Training]:
    """A function that trains a dog on two pictures."""

    def run(name: str = "rex", **options: Any) -> Training:
        return train_concept(base, name, "dog", PICTURES, Recipe(**SMALL, **options), cache=cache)

    return run


@pytest.mark.parametrize(
    ("options", "vectors"),
    [
        ({"adapter": "textual_inversion"}, 1),
        ({"adapter": "textual_inversion", "num_vectors": 3}, 3),
        ({"adapter": "prompt_tuning"}, 8),
        ({"adapter": "prompt_tuning", "options": {"num_vectors": 2}}, 2),
    ],
)
def test_the_token_alone_is_trained(base: Base, train, options: dict[str, Any], vectors: int):
    concept = train(**options).concept
    assert concept.adapters == {}
    assert {len(each) for each in concept.tokens["<rex>"].values()} == {vectors}
    untrained = train(**options, token_lr=1e-30).concept
    for part, each in concept.tokens["<rex>"].items():
        assert not torch.allclose(each, untrained.tokens["<rex>"][part])
    read = from_bytes(to_bytes(concept), "test")
    assert read.adapters == {}


def test_it_is_served_merged_and_continued(base: Base, train, tmp_path: Path):
    settings = SamplingSettings(num_inference_steps=2)
    rex, milo = train(adapter="textual_inversion").concept, train("milo", adapter="prompt_tuning").concept
    with Serving(base, {"rex": rex, "milo": milo}) as serving:
        one, other = serving.generate(
            [Request("a <rex>", concepts={"rex": 1.0}), Request("a <milo>", concepts={"milo": 1.0})], settings
        )
    assert one.tobytes() != other.tobytes()
    both = merged_concept(base, {"rex": rex, "milo": milo})
    assert (both.adapter, both.adapters) == ("textual_inversion", {})
    assert both.tokens.keys() == {"<rex>", "<milo>"}
    recipe = continued_recipe(rex, {"steps": 2})
    further = train_concept(base, "rex", "dog", PICTURES, recipe, cache=tmp_path, start=rex).concept
    assert not torch.equal(further.tokens["<rex>"]["text_encoder"], rex.tokens["<rex>"]["text_encoder"])
