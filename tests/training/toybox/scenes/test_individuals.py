from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from PIL import Image

from concepts.samples import SAMPLES
from training.toybox.sample_concepts.animals import CATS, DOGS
from training.toybox.sample_concepts.pen import Pose
from training.toybox.scenes.individuals import traits
from training.toybox.scenes.individuals.colours import CLEAR, contrasting_colours, distance, lab, nearest
from training.toybox.scenes.individuals.figure import FIGURES, draw_figure, draw_on, sample_pose
from training.toybox.scenes.individuals.pen import QuickPen
from training.toybox.scenes.individuals.traits import (
    ACCESSORIES,
    HELD_OUT,
    KINDS,
    PATTERNS,
    SAMPLE_TRAITS,
    UNCOLOURED,
    Individual,
    is_held_out,
    sample_individual,
)
from training.toybox.scenes.items import COLOURS, THINGS

STANDING = Pose(head=0, swing=0.2, lean=0, flipped=False, second_stance=False)
SECOND = replace(STANDING, second_stance=True)


def sampled(count: int, seed: int = 0) -> list[Individual]:
    rng = np.random.default_rng(seed)
    return [sample_individual(rng) for _ in range(count)]


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two figures in front of gray, in levels."""
    pictures = []
    for figure in (one, other):
        ground = Image.new("RGBA", (64, 64), (128, 128, 128, 255))
        ground.alpha_composite(figure.resize((64, 64)))
        pictures.append(np.asarray(ground, float)[..., :3])
    return float(np.abs(pictures[0] - pictures[1]).mean())


def test_every_two_colours_are_well_apart():
    assert len(COLOURS) == 13
    assert lab((255, 255, 255)) == pytest.approx([100, 0, 0], abs=0.1)
    assert lab((255, 0, 0)) == pytest.approx([53.2, 80.1, 67.2], abs=0.2)
    assert min(distance(*pair) for pair in combinations(COLOURS.values(), 2)) > 33
    assert {"cream", "gray", "black", "white", "brown", "teal"} < set(COLOURS)
    for ground in COLOURS:
        assert len(contrasting_colours(ground)) >= 9
        assert min(distance(COLOURS[ground], COLOURS[name]) for name in contrasting_colours(ground)) >= CLEAR


def test_there_are_twelve_kinds_and_no_word_twice():
    assert set(KINDS) == set(FIGURES)
    assert len(KINDS) == 12
    words = [word for kind in KINDS.values() for word in (kind.name, *kind.synonyms)]
    words += [word for thing in THINGS.values() for word in (thing.name, *thing.synonyms)]
    assert len(words) == len(set(words))


def test_each_sample_has_its_traits_in_the_worlds_words():
    assert list(SAMPLE_TRAITS) == list(SAMPLES)
    for name, individual in SAMPLE_TRAITS.items():
        kind = KINDS[individual.kind]
        assert kind.name == SAMPLES[name].class_word
        assert individual.pattern in kind.patterns
        assert individual.accessory in (None, *kind.accessories)
        assert (individual.second_colour is None) == (individual.pattern in UNCOLOURED)
    for name, coat in {**CATS, **DOGS}.items():
        assert SAMPLE_TRAITS[name].colour == nearest(coat.fur)


def test_what_is_held_out_is_never_drawn(monkeypatch):
    assert len(HELD_OUT) == len(SAMPLES)
    draws = sampled(20_000)
    assert not [individual for individual in draws if is_held_out(individual)]
    for individual in SAMPLE_TRAITS.values():
        assert is_held_out(individual)
        assert is_held_out(replace(individual, seed=99, accessory_colour="red"))
        assert not is_held_out(replace(individual, colour="red", second_colour="blue"))
    # Samples' neighbours are drawn: four of the five traits may be shared.
    near = {individual.key[:3] for individual in draws}
    assert ("cat", "orange", "stripes") in near
    offered = iter([SAMPLE_TRAITS["milo"], SAMPLE_TRAITS["gizmo"], draws[0]])
    monkeypatch.setattr(traits, "_draw", lambda *_: next(offered))
    assert sample_individual(np.random.default_rng(0)) == draws[0]


def test_draws_cover_the_world_and_no_two_are_the_same():
    draws = sampled(3000, seed=1)
    assert len(set(draws)) == len(draws)
    assert {individual.kind for individual in draws} == set(KINDS)
    assert {individual.colour for individual in draws} == set(COLOURS)
    assert {individual.pattern for individual in draws} == set(PATTERNS)
    assert {individual.accessory for individual in draws} == {None, *ACCESSORIES}
    for individual in draws:
        assert individual.second_colour is None or individual.second_colour in contrasting_colours(individual.colour)
        assert (individual.accessory is None) == (individual.accessory_colour is None)
        if individual.accessory:
            assert individual.accessory_colour not in (individual.colour, individual.second_colour)


def test_a_kind_can_be_asked_for_and_colours_avoided():
    rng = np.random.default_rng(2)
    draws = [sample_individual(rng, "owl", ("red", "white")) for _ in range(200)]
    assert {individual.kind for individual in draws} == {"owl"}
    assert not {"red", "white"} & {individual.colour for individual in draws}
    with pytest.raises(KeyError):
        sample_individual(rng, "nobody")


@pytest.mark.parametrize("kind", KINDS)
def test_every_pattern_and_accessory_of_a_kind_is_drawn_and_shows(kind: str):
    plain = Individual(kind, "purple", "plain", None, None, None, 5)
    bare = draw_figure(plain, STANDING, 48, 48)
    for pattern, accessory in product(KINDS[kind].patterns, (None, *KINDS[kind].accessories)):
        second = None if pattern in UNCOLOURED else "yellow"
        worn = "green" if accessory else None
        figure = draw_figure(Individual(kind, "purple", pattern, second, accessory, worn, 5), STANDING, 48, 48)
        assert max(figure.size) == 48
        if pattern != "plain" or accessory:
            assert difference(figure, bare) > 1, (pattern, accessory)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pose", [STANDING, SECOND], ids=["first", "second"])
def test_the_patterns_colour_and_the_main_colour_both_show(kind: str, pose: Pose):
    for pattern in set(KINDS[kind].patterns) - set(UNCOLOURED):
        for seed in range(4):
            figure = draw_figure(Individual(kind, "green", pattern, "pink", None, None, seed), pose, 96, 96)
            pixels = np.asarray(figure, int).reshape(-1, 4)
            pixels = pixels[pixels[:, 3] == 255, :3]
            second, main = ((np.abs(pixels - np.array(COLOURS[name])).max(1) < 34).mean() for name in ("pink", "green"))
            assert second > 0.025, (pattern, seed)
            assert main > 0.08, (pattern, seed)


def test_the_same_individual_in_the_same_pose_has_the_same_bytes():
    for individual in sampled(24, seed=3):
        first, again, other = (draw_figure(individual, pose, 60, 60) for pose in (STANDING, STANDING, SECOND))
        assert first.tobytes() == again.tobytes()
        assert first.size != other.size or first.tobytes() != other.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_individuals_with_the_same_traits_differ_more_than_one_does_from_itself(kind: str):
    alike = [Individual(kind, "orange", "plain", None, None, None, seed) for seed in range(12)]
    figures = [draw_figure(individual, STANDING, 96, 96) for individual in alike]
    shifted = [draw_figure(individual, replace(STANDING, head=2, swing=0.3), 96, 96) for individual in alike]
    between = [difference(one, other) for one, other in combinations(figures, 2)]
    within = [difference(one, other) for one, other in zip(figures, shifted, strict=True)]
    assert np.median(between) > 2 * np.median(within)
    assert min(between) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_figure_is_cut_by_its_canvas(kind: str):
    rng = np.random.default_rng(4)
    for accessory in (None, *KINDS[kind].accessories):
        individual = replace(sample_individual(rng, kind), accessory=accessory, accessory_colour="red")
        for flipped, second_stance, side in product((False, True), (False, True), (-1, 1)):
            pose = Pose(12 * side, float(side), 7.0 * side, flipped, second_stance)
            canvas = QuickPen.blank(0.75)
            draw_on(canvas, replace(individual, seed=int(rng.integers(99))), pose)
            left, top, right, bottom = canvas.image.getchannel("A").getbbox() or (0, 0, 0, 0)
            assert left > 1, (individual, pose)
            assert top > 1, (individual, pose)
            assert right < canvas.image.width - 1, (individual, pose)
            assert bottom < canvas.image.height - 1, (individual, pose)


def test_a_figure_fits_the_room_it_is_given():
    rng = np.random.default_rng(6)
    for individual in sampled(30, seed=6):
        figure = draw_figure(individual, sample_pose(rng), 50, 70)
        assert figure.width <= 50
        assert figure.height <= 70
        assert figure.width == 50 or figure.height == 70
        assert figure.mode == "RGBA"
