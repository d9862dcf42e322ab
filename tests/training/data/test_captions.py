import pytest
import torch

from training.config.recipe import Recipe
from training.data.captions import caption_of, named
from training.data.dataset import Sample


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a Dog and a dog on the grass", "a <rex> and a dog on the grass"),
        ("a photo of {}\nat night", "a photo of <rex> at night"),
        ("a photo of <REX>, asleep", "a photo of <REX>, asleep"),
        ("doggedly, in the snow", "<rex>, doggedly, in the snow"),
    ],
)
def test_a_caption_names_the_concept(caption: str, expected: str):
    assert named(caption, "<rex>", "dog") == expected


def test_captions_are_templates_or_the_pictures_own():
    described, plain = Sample(torch.zeros(1), "a dog, asleep"), Sample(torch.zeros(1))
    generator = torch.Generator().manual_seed(0)

    def caption(sample: Sample, **options) -> str:
        return caption_of(sample, "a photo of {}", "<rex>", "dog", Recipe(**options), generator)

    assert caption(described, captions="templates") == caption(plain) == "a photo of <rex>"
    assert caption(described) == caption(described, captions="files") == "a <rex>, asleep"
    assert caption(plain, captions="files") == "a photo of <rex>"
    orders = {caption(described, captions="files", shuffle_caption=True) for _ in range(20)}
    assert orders == {"a <rex>, asleep", "asleep, a <rex>"}
