import pytest
import torch

from training.config.recipe import Recipe
from training.data.captions import caption_notes, caption_of, named
from training.data.dataset import Sample


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a Dog and a dog on the grass", "a <rex> and a dog on the grass"),
        ("a photo of {}\nat night", "a photo of <rex> at night"),
        ("a photo of <REX>, asleep", "a photo of <REX>, asleep"),
        ("a photo of < rex >, asleep", "a photo of <rex>, asleep"),
        ("<lora:rex:0.8> on grass", "<rex> on grass"),
        ("a <milo>, a dog", "a <milo>, a <rex>"),
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


def test_the_name_of_a_concept_called_as_a_tool():
    assert named("<lora:lora:0.8> on grass", "<lora>", "dog") == "<lora> on grass"


def test_what_is_weighed_together_stays_together():
    sample, generator = Sample(torch.zeros(1), "(a dog, asleep:1.2), red"), torch.Generator().manual_seed(0)
    recipe = Recipe(shuffle_caption=True, prompt_syntax="a1111")
    orders = {caption_of(sample, "", "<rex>", "dog", recipe, generator) for _ in range(20)}
    assert orders == {"(a <rex>, asleep:1.2), red", "red, (a <rex>, asleep:1.2)"}


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        ({}, ["A caption has weights", "A caption has <lora:detail:0.6>, which is no name here"]),
        ({"prompt_syntax": "a1111"}, ["A caption has <lora:detail:0.6>"]),
        ({"captions": "templates"}, []),
        ({"captions": "templates", "templates": ("a (photo:1.2) of {}",)}, ["A caption template has weights"]),
    ],
)
def test_what_of_captions_is_read_as_it_stands_is_told_once(options: dict, notes: list[str]):
    captions = ["(a dog:1.2), <lora:detail:0.6>", None, "(a dog:1.2), < rex >"]
    told = caption_notes(captions, "rex", Recipe(**options))
    assert len(told) == len(notes)
    assert all(found.startswith(note) for found, note in zip(told, notes, strict=True))
