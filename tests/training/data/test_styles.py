"""Concepts whose class word is style: captions describe the rest."""

import pytest
import torch

from training.config.caption_templates import CAPTIONS, STYLE_CAPTIONS
from training.config.recipe import Recipe
from training.data.captions import named, templates_of, validation_prompt_of
from training.data.class_images import any_prompt
from training.data.dataset import prior_prompts


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a boat on a lake", "a boat on a lake, in the style of <monet>"),
        ("a boat, painted in style", "a boat, painted in <monet>"),
        ("a boat by {}", "a boat by <monet>"),
        ("a boat by <monet>", "a boat by <monet>"),
        ("", "<monet>"),
    ],
)
def test_a_caption_describes_the_rest(caption: str, expected: str):
    assert named(caption, "<monet>", "style") == expected


def test_templates_and_validation_prompt_are_a_styles_where_they_are_unset():
    assert templates_of(Recipe(), "Style") == STYLE_CAPTIONS
    assert templates_of(Recipe(), "dog") == CAPTIONS
    assert templates_of(Recipe(templates=("by {}",)), "style") == ("by {}",)
    assert validation_prompt_of(Recipe(), "style") == "a painting in the style of {}"
    assert validation_prompt_of(Recipe(), "dog") == "a photo of {}"
    assert validation_prompt_of(Recipe(validation_prompt="{} at night"), "style") == "{} at night"


def test_no_prompt_without_the_concept_says_style():
    generator = torch.Generator().manual_seed(0)
    assert not any("style" in any_prompt("style", generator) for _ in range(500))
    of_class, others = prior_prompts(Recipe(num_class_images=30), "style")
    assert len({*of_class, *others}) == len(of_class) + len(others) == 30
    assert not any("style" in prompt for prompt in (*of_class, *others))
