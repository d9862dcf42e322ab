from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageChops

from training.toybox.backgrounds import draw_background
from training.toybox.render import SPRITES, Item, Marking, Scene, draw_scene, marked, recoloured, sample_scene, sprite
from training.toybox.world import BACKGROUNDS, COLOURS, MARKING_COLOURS, MARKINGS, PLACES, PLAIN, THINGS

SCENE = Scene((Item("cat", "blue", (0.3, 0.5), 0.4),), "plain yellow", 5)


@pytest.fixture(scope="module")
def sampled() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [sample_scene(rng) for _ in range(1500)]


def mean_colour(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture.convert("RGBA"), dtype=float)
    return np.average(pixels[..., :3].reshape(-1, 3), axis=0, weights=pixels[..., 3].ravel() + 1e-9)


def test_the_world_is_as_large_as_promised():
    assert len(THINGS) >= 80
    assert len(COLOURS) >= 8
    assert len(PLACES) >= 10
    assert len(BACKGROUNDS) == len(PLACES) + len(PLAIN)
    words = [word for thing in THINGS.values() for word in (thing.name, *thing.synonyms)]
    assert len(words) == len(set(words))


def test_every_thing_has_a_sprite_and_every_sprite_a_thing():
    assert {file.stem for file in SPRITES.glob("*.png")} == {name.replace(" ", "_") for name in THINGS}
    for name in THINGS:
        picture = sprite(name, None)
        assert picture.mode == "RGBA"
        assert picture.getchannel("A").getextrema() == (0, 255)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_recoloured_thing_has_that_colour_and_its_own_outline(colour: str):
    for name in ("cat", "vase", "car"):
        plain, tinted = sprite(name, None), sprite(name, colour)
        assert tinted.getchannel("A").tobytes() == plain.getchannel("A").tobytes()
        distances = {other: np.abs(mean_colour(tinted) - value).sum() for other, value in COLOURS.items()}
        assert min(distances, key=lambda other: distances[other]) == colour


def test_shading_survives_a_new_colour():
    ramp = Image.linear_gradient("L").convert("RGBA")
    levels = np.asarray(recoloured(ramp, COLOURS["red"]), dtype=float)[:, 0, 0]
    assert (np.diff(levels) >= 0).all()
    assert levels[-1] - levels[0] > 80


@pytest.mark.parametrize("kind", MARKINGS)
def test_a_marking_changes_a_part_of_the_thing_and_not_its_outline(kind: str):
    cat = sprite("cat", None)
    for colour in MARKING_COLOURS:
        result = marked(cat, Marking(kind, colour, 3))
        assert result.getchannel("A").tobytes() == cat.getchannel("A").tobytes()
        opaque = np.asarray(cat)[..., 3] > 0
        changed = (np.asarray(result)[..., :3] != np.asarray(cat)[..., :3]).any(-1)[opaque].mean()
        assert 0.05 < changed < 0.95
    assert marked(cat, Marking(kind, "red", 3)).tobytes() == marked(cat, Marking(kind, "red", 3)).tobytes()


def test_a_scene_is_drawn_the_same_again_at_any_size():
    first = draw_scene(SCENE)
    assert (first.size, first.mode) == ((128, 128), "RGB")
    assert draw_scene(SCENE).tobytes() == first.tobytes()
    assert draw_scene(replace(SCENE, seed=6)).tobytes() != first.tobytes()
    small = np.asarray(draw_scene(SCENE, 64), dtype=float)
    assert small.shape == (64, 64, 3)
    assert np.abs(small - np.asarray(first.resize((64, 64)), dtype=float)).mean() < 12


def test_a_thing_is_where_the_scene_says():
    empty = draw_scene(replace(SCENE, items=()))
    left, top, right, bottom = ImageChops.difference(draw_scene(SCENE), empty).getbbox() or (0, 0, 0, 0)
    assert abs((left + right) / 2 - 0.3 * 128) < 4
    assert abs((top + bottom) / 2 - 0.5 * 128) < 4
    assert abs(max(right - left, bottom - top) - 0.4 * 128) < 4


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_every_background_is_drawn_and_varies(name: str):
    one, again, other = (draw_background(name, 128, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (one.size, one.mode) == ((128, 128), "RGB")
    assert one.tobytes() == again.tobytes() != other.tobytes()
    if name.startswith("plain "):
        distance = np.abs(mean_colour(one) - PLAIN[name.removeprefix("plain ")])
        assert distance.max() < 40


def test_scenes_hold_none_one_or_two_things_inside_the_picture(sampled: list[Scene]):
    shares = np.bincount([len(scene.items) for scene in sampled]) / len(sampled)
    assert len(shares) == 3
    assert shares[0] < 0.1 < 0.3 < shares[1]
    assert shares[2] > 0.3
    for item in (item for scene in sampled for item in scene.items):
        assert all(item.size / 2 - 0.05 <= centre <= 1.05 - item.size / 2 for centre in item.centre)
        assert item.marking is None


def test_two_things_are_different_and_stand_beside_each_other(sampled: list[Scene]):
    for one, other in (scene.items for scene in sampled if len(scene.items) == 2):
        assert one.thing != other.thing
        assert abs(one.centre[0] - other.centre[0]) > 0.3
    first_is_left = [s.items[0].centre[0] < s.items[1].centre[0] for s in sampled if len(s.items) == 2]
    assert 0.4 < np.mean(first_is_left) < 0.6


def test_with_less_spread_things_keep_nearer_to_their_places():
    spread = {}
    for share in (0.25, 1.0):
        rng = np.random.default_rng(0)
        alone = [
            scene.items[0] for scene in (sample_scene(rng, spread=share) for _ in range(200)) if len(scene.items) == 1
        ]
        spread[share] = np.std([(*item.centre, item.size) for item in alone], axis=0)
    assert (spread[0.25] < 0.3 * spread[1.0]).all()
    assert (spread[0.25] > 0).all()


def test_everything_occurs_and_nothing_hides_on_its_background(sampled: list[Scene]):
    items = [item for scene in sampled for item in scene.items]
    assert {item.thing for item in items} == set(THINGS)
    assert {item.colour for item in items} == {None, *COLOURS}
    assert {scene.background for scene in sampled} == set(BACKGROUNDS)
    assert not [s for s in sampled for item in s.items if item.colour and s.background == f"plain {item.colour}"]


def test_markings_occur_only_where_asked_for():
    rng = np.random.default_rng(1)
    items = [item for _ in range(200) for item in sample_scene(rng, 0.5).items]
    share = np.mean([item.marking is not None for item in items])
    assert 0.35 < share < 0.65
    assert {item.marking.kind for item in items if item.marking} == set(MARKINGS)
