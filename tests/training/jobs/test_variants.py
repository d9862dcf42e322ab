from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from concepts import Library, LibraryError, read_picture
from concepts.errors import StudioError
from training.config.recipe import Recipe
from training.jobs.variants import (
    Variants,
    add_variant,
    refuse_other_pictures,
    same_pictures,
    trainings_of,
    variant_name,
    varied_recipe,
)


def store(library: Library, name: str, adapter: str, rank: int, **recipe: Any) -> None:
    details = {"base": "base", "adapter": adapter, "rank": rank, "parameters": 1}
    made = Recipe(adapter=adapter, rank=rank, **recipe).model_dump(mode="json")
    library.store_result(name, b"file", {**details, "recipe": made})


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Rex with two pictures, one of them with a caption and a mask, trained with lora of rank 8."""
    library = Library(tmp_path / "library")
    for number, colour in enumerate(("navy", "teal")):
        Image.new("RGB", (80, 64), colour).save(tmp_path / f"{number}.png")
    library.add_concept("rex", "dog", [tmp_path / "0.png", tmp_path / "1.png"])
    library.annotations.set_caption("rex", 1, "a dog, asleep")
    library.annotations.set_mask("rex", 1, Image.new("L", (80, 64), 255))
    store(library, "rex", "lora", 8)
    return library


def test_a_variant_name_contains_the_changed_options():
    changes = {"adapter": "svdiff", "rank": 4}
    assert variant_name("rex", {"adapter": "lora"}) == "rex-lora"
    assert variant_name("rex", changes) == "rex-svdiff-r4"
    assert variant_name("rex-lora-r8", {"rank": 4}) == "rex-lora-r4"
    assert variant_name("my-rex-lora-s1", changes) == "my-rex-svdiff-r4-s1"
    assert variant_name("explora", {"rank": 4}) == "explora-r4"


def test_a_variant_has_the_pictures_captions_and_masks(library: Library):
    variant, concept = add_variant(library, "rex", "rex-r4"), library.concept("rex")
    assert same_pictures(variant, concept)
    assert (variant.class_word, variant.captions) == ("dog", (None, "a dog, asleep"))
    assert [mask is not None for mask in variant.masks] == [False, True]
    assert read_picture(variant.pictures[1], "").getpixel((0, 0)) == (0, 128, 128)
    assert add_variant(library, "rex", "rex-r4") == variant


def test_another_concept_of_the_name_is_left_alone(library: Library, tmp_path: Path):
    library.add_concept("rex-r4", "dog", [tmp_path / "0.png"])
    with pytest.raises(
        LibraryError, match='The library has another concept "rex-r4", the name of this training of "rex"'
    ):
        refuse_other_pictures(library, "rex", "rex-r4")
    assert [each.name for each in Variants(library).of("rex")] == ["rex"]


def test_the_nearest_training_is_found(library: Library):
    for name, adapter, rank, seed in (
        ("rex-svdiff-s1", "svdiff", 0, 1), ("rex-svdiff", "svdiff", 0, 0), ("rex-lora-r4", "lora", 4, 0),
    ):  # fmt: skip
        add_variant(library, "rex", name)
        store(library, name, adapter, rank or 8, seed=seed)
    variants = Variants(library)
    assert [each.name for each in variants.of("REX")] == ["rex", "rex-lora-r4", "rex-svdiff", "rex-svdiff-s1"]
    found = [variants.trained("rex", wanted) for wanted in ({"adapter": "svdiff"}, {"rank": 4}, {"adapter": "lora"})]
    assert [concept and concept.name for concept in found] == ["rex-svdiff", "rex-lora-r4", "rex"]
    assert variants.trained("rex", {"adapter": "svdiff", "rank": 4}) is None


def test_what_is_missing_is_trained_like_the_concept(library: Library):
    store(library, "rex", "lora", 8, steps=77)
    training = Variants(library).training("rex", {"adapter": "lora", "rank": 4})
    assert (training.source, training.name) == ("rex", "rex-r4")
    assert training.recipe == Recipe(adapter="lora", rank=4, steps=77)
    same_rank = Variants(library).training("rex", {"adapter": "glora", "rank": 8})
    assert (same_rank.name, same_rank.recipe.rank) == ("rex-glora", 8)
    with pytest.raises(StudioError, match="svdiff has no option rank"):
        Variants(library).training("rex", {"adapter": "svdiff", "rank": 8})


def test_another_adapter_has_its_own_size_and_options():
    recipe = Recipe(adapter="lora", rank=8, options={"alpha": 4}, target_modules=("attention_kv",), steps=9)
    assert varied_recipe(recipe, {"adapter": "svdiff"}) == Recipe(
        adapter="svdiff", target_modules=("attention_kv",), steps=9
    )
    assert varied_recipe(recipe, {"adapter": "bitfit"}) == Recipe(adapter="bitfit", steps=9)
    budgeted = Recipe(adapter="lora", max_parameters=20_000)
    assert varied_recipe(budgeted, {"adapter": "dora"}).max_parameters == 20_000
    assert varied_recipe(budgeted, {"rank": 2}) == Recipe(adapter="lora", rank=2)
    with pytest.raises(StudioError, match="svdiff"):
        varied_recipe(recipe, {"adapter": "svdiff", "rank": 4})


def test_several_trainings_are_every_pair_that_there_can_be():
    asked = trainings_of("rex", Recipe(adapter="lora", rank=8), ["svdiff", "glora", "lora"], [4, 8])
    assert [(each.name, each.recipe.adapter, each.recipe.rank) for each in asked] == [
        ("rex", "lora", 8), ("rex-r4", "lora", 4), ("rex-svdiff", "svdiff", None), ("rex-glora", "glora", 8),
        ("rex-glora-r4", "glora", 4),
    ]  # fmt: skip
    assert {each.source for each in asked} == {"rex"}
    (_, other) = trainings_of("rex", Recipe(adapter="lora", rank=8), ["glora"], [])
    assert other.recipe == Recipe(adapter="glora")
