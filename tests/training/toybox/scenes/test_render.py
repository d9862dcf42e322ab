from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageChops

from training.toybox.sample_concepts.pen import Pose
from training.toybox.scenes.backgrounds import draw_background
from training.toybox.scenes.individuals.traits import KINDS, Individual, is_held_out
from training.toybox.scenes.items import BACKGROUNDS, COLOURS, PLACES, PLAIN, THINGS, TINTS
from training.toybox.scenes.render import (
    COUNTS,
    INDIVIDUALS,
    KIND_NAMES,
    SPRITES,
    Item,
    Scene,
    Tinted,
    draw_scene,
    draw_with_placements,
    recoloured,
    sample_scene,
    sprite,
)

POSE = Pose(head=4, swing=0.5, lean=3, flipped=True, second_stance=False)
CAT = Individual("cat", "blue", "spots", "white", "cap", "red", 7)
SCENE = Scene((Item(CAT, (0.0, 0.6), 0.4, (0.5, 0.5), POSE),), "plain yellow", 5)


@pytest.fixture(scope="module")
def sampled() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [sample_scene(rng) for _ in range(3000)]


def mean_colour(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture.convert("RGBA"), dtype=float)
    return np.average(pixels[..., :3].reshape(-1, 3), axis=0, weights=pixels[..., 3].ravel() + 1e-9)


def test_the_world_is_as_large_as_promised():
    assert len(THINGS) >= 40
    assert len(PLACES) >= 10
    assert len(BACKGROUNDS) == len(PLACES) + len(PLAIN)
    assert set(TINTS) < set(COLOURS)
    assert set(PLAIN) < set(COLOURS)


def test_every_thing_has_a_sprite_and_every_sprite_a_thing():
    assert {file.stem for file in SPRITES.glob("*.png")} == {name.replace(" ", "_") for name in THINGS}
    for name in THINGS:
        picture = sprite(name, None)
        assert picture.mode == "RGBA"
        assert picture.getchannel("A").getextrema() == (0, 255)


@pytest.mark.parametrize("colour", TINTS)
def test_a_recoloured_thing_has_that_colour_and_its_own_outline(colour: str):
    for name in ("horse", "chair", "cup"):
        plain, tinted = sprite(name, None), sprite(name, colour)
        assert tinted.getchannel("A").tobytes() == plain.getchannel("A").tobytes()
        distances = {other: np.abs(mean_colour(tinted) - COLOURS[other]).sum() for other in TINTS}
        assert min(distances, key=lambda other: distances[other]) == colour


def test_shading_survives_a_new_colour():
    ramp = Image.linear_gradient("L").convert("RGBA")
    levels = np.asarray(recoloured(ramp, COLOURS["red"]), dtype=float)[:, 0, 0]
    assert (np.diff(levels) >= 0).all()
    assert levels[-1] - levels[0] > 80


def test_a_scene_is_drawn_the_same_again_at_any_size():
    first = draw_scene(SCENE)
    assert (first.size, first.mode) == ((128, 128), "RGB")
    assert draw_scene(SCENE).tobytes() == first.tobytes()
    assert draw_scene(replace(SCENE, seed=6)).tobytes() != first.tobytes()
    small = np.asarray(draw_scene(SCENE, 64), dtype=float)
    assert small.shape == (64, 64, 3)
    assert np.abs(small - np.asarray(first.resize((64, 64)), dtype=float)).mean() < 12


@pytest.mark.parametrize("subject", [CAT, Tinted("apple"), Tinted("key", "red")], ids=["cat", "apple", "key"])
def test_an_item_is_where_the_scene_says(subject: Individual | Tinted):
    item = Item(subject, (0.1, 0.7), 0.5, (0.25, 1.0), POSE if isinstance(subject, Individual) else None)
    scene = Scene((item,), "plain green", 1)
    picture, (seen,) = draw_with_placements(scene)
    changed = ImageChops.difference(picture, draw_scene(replace(scene, items=()))).getbbox()
    assert changed is not None
    assert np.abs(np.subtract(changed, seen.box)).max() <= 2
    left, top, right, bottom = seen.box
    assert 0.1 * 128 - 1 <= left < right <= 0.7 * 128 + 1
    assert bottom == 128
    assert bottom - top <= 0.5 * 128


def test_silhouettes_say_which_pixels_are_an_items():
    picture, (seen,) = draw_with_placements(SCENE)
    empty = np.asarray(draw_scene(replace(SCENE, items=())), int)
    changed = np.abs(np.asarray(picture, int) - empty).max(2)
    opacity = np.asarray(seen.silhouette)
    assert (changed[opacity == 0] == 0).all()
    assert (changed[opacity == 255] > 3).mean() > 0.98
    assert 0.02 < (opacity > 128).mean() < 0.16


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_every_background_is_drawn_and_varies(name: str):
    one, again, other = (draw_background(name, 128, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (one.size, one.mode) == ((128, 128), "RGB")
    assert one.tobytes() == again.tobytes() != other.tobytes()
    if name.startswith("plain "):
        distance = np.abs(mean_colour(one) - PLAIN[name.removeprefix("plain ")])
        assert distance.max() < 40


def test_scenes_hold_up_to_three_items(sampled: list[Scene]):
    shares = np.bincount([len(scene.items) for scene in sampled]) / len(sampled)
    assert shares == pytest.approx(COUNTS, abs=0.03)
    items = [item for scene in sampled for item in scene.items]
    individuals = np.mean([isinstance(item.subject, Individual) for item in items])
    assert individuals == pytest.approx(INDIVIDUALS, abs=0.03)


def test_items_are_inside_the_picture_and_hide_each_other_at_most_a_little(sampled: list[Scene]):
    for scene in [scene for scene in sampled if len(scene.items) > 1][:150]:
        _, placements = draw_with_placements(scene)
        for left, top, right, bottom in (one.box for one in placements):
            assert 0 <= left < right <= 128
            assert 0 <= top < bottom <= 128
        free = np.ones((128, 128), bool)
        for solid in (np.asarray(one.silhouette) > 128 for one in reversed(placements)):
            assert (solid & ~free).sum() < 0.1 * solid.sum()
            free &= ~solid


def test_items_of_a_scene_can_be_told_apart_by_kind_or_colour(sampled: list[Scene]):
    for scene in sampled:
        assert len({(item.kind, item.colour) for item in scene.items}) == len(scene.items)
        slots = sorted(item.slot for item in scene.items)
        assert all(one[1] < other[1] for one, other in pairwise(slots))
    first_is_left = [s.items[0].slot < s.items[1].slot for s in sampled if len(s.items) == 2]
    assert 0.4 < np.mean(first_is_left) < 0.6


def test_everything_occurs_and_nothing_hides_on_its_background(sampled: list[Scene]):
    items = [item for scene in sampled for item in scene.items]
    assert {item.kind for item in items} == set(KIND_NAMES)
    assert set(KINDS) < set(KIND_NAMES)
    assert {item.colour for item in items} == {None, *COLOURS}
    assert {scene.background for scene in sampled} == set(BACKGROUNDS)
    assert not [s for s in sampled for item in s.items if item.colour and s.background == f"plain {item.colour}"]
    assert not [s for s in sampled for item in s.items if item.colour == "black" and s.background == "night"]


def test_no_scene_shows_what_is_held_out(sampled: list[Scene]):
    individuals = [item.subject for s in sampled for item in s.items if isinstance(item.subject, Individual)]
    assert len(individuals) > 3000
    assert not [individual for individual in individuals if is_held_out(individual)]
    assert len({individual.seed for individual in individuals}) > 0.99 * len(individuals)
