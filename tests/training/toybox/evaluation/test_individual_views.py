from dataclasses import replace

import numpy as np
import pytest

from training.toybox.evaluation.corruptions import TRAINING_CORRUPTIONS, Shown, corrupted
from training.toybox.evaluation.individual_views import CHANGES, hard_negative, hard_negatives, individual_view
from training.toybox.scenes.individuals.traits import (
    HELD_OUT,
    KINDS,
    SAMPLE_TRAITS,
    UNCOLOURED,
    is_held_out,
    sample_individual,
)
from training.toybox.scenes.render import draw_with_placements


@pytest.mark.parametrize("change", CHANGES)
def test_a_hard_negative_differs_by_its_change_and_can_be_rendered(change: str):
    rng = np.random.default_rng(0)
    for _ in range(60):
        one = sample_individual(rng)
        other = hard_negative(one, change, rng)
        assert other != one
        assert other.key not in HELD_OUT
        assert other.pattern in KINDS[other.kind].patterns
        assert other.accessory is None or other.accessory in KINDS[other.kind].accessories
        assert (other.second_colour is None) == (other.pattern in UNCOLOURED)
        assert (other.accessory is None) == (other.accessory_colour is None)
        if change == "kind":
            assert other.kind != one.kind
            assert other.colour == one.colour
        else:
            assert other.kind == one.kind
            assert (other.seed == one.seed) == (change != "build")
        if change == "palette":
            assert other.colour != one.colour
        if change == "exchanged" and one.second_colour:
            assert (other.colour, other.second_colour) == (one.second_colour, one.colour)
        if change == "build":
            assert replace(other, seed=one.seed) == one
        if change == "pattern":
            assert (other.pattern, other.colour) != (one.pattern, one.colour)
            assert other.colour == one.colour


def test_half_of_the_hard_negatives_have_its_palette_and_half_its_shape():
    rng = np.random.default_rng(1)
    for _ in range(10):
        one = sample_individual(rng)
        others = hard_negatives(one, rng)
        assert [other.kind != one.kind for other in others] == [True, True, False, False]
        assert [other.seed == one.seed for other in others] == [False, False, True, True]


def test_a_view_shows_the_individual_first_on_a_ground_that_does_not_hide_it():
    rng = np.random.default_rng(2)
    scenes = [individual_view(sample_individual(rng), rng) for _ in range(40)]
    for scene in scenes:
        subject = scene.items[0].subject
        assert scene.background != f"plain {subject.colour}"
        left, _, right, _ = draw_with_placements(scene)[1][0].box
        assert 0 <= left < right <= 128
    assert 0 < sum(len(scene.items) == 2 for scene in scenes) < 20
    assert len({scene.background for scene in scenes}) > 8


@pytest.mark.parametrize("corruption", TRAINING_CORRUPTIONS)
def test_a_corrupted_picture_differs(corruption: str):
    rng = np.random.default_rng(3)
    for _ in range(4):
        scenes = [individual_view(sample_individual(rng), rng) for _ in range(2)]
        one, other = (Shown(np.asarray(picture), seen[0], scene.background)
                      for scene, (picture, seen) in zip(scenes, map(draw_with_placements, scenes), strict=True)
                      )  # fmt: skip
        before = one.levels.copy()
        result = corrupted(one, other, rng, corruption)
        assert result.shape == (128, 128, 3)
        assert result.dtype == np.uint8
        assert np.abs(result.astype(int) - one.levels).mean() > 1
        assert np.array_equal(before, one.levels), "the picture itself stays as it is"


def test_an_individual_whose_exchanged_colours_are_a_samples_gets_another_palette():
    rng = np.random.default_rng(0)
    samples = [traits for traits in SAMPLE_TRAITS.values() if traits.second_colour]
    assert samples
    for traits in samples:
        mirrored = replace(traits, colour=traits.second_colour, second_colour=traits.colour)
        assert not is_held_out(mirrored)
        other = hard_negative(mirrored, "exchanged", rng)
        assert not is_held_out(other)
        assert (other.kind, other.pattern) == (traits.kind, traits.pattern)
