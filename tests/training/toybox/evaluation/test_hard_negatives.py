import numpy as np
import pytest

from concepts.samples import SAMPLES
from studio.metrics.identity import DRAWN_NEGATIVES, NEGATIVES
from training.toybox.evaluation.hard_negatives import compared_with, recoloured, sample_negatives, sample_pictures
from training.toybox.sample_concepts.concepts import draw_sample


def test_the_samples_are_drawn_as_they_lie_in_the_library():
    for name, index in (("rex", 2), ("onyx", 4)):
        assert draw_sample(name, index).tobytes() == sample_pictures(name)[index].tobytes()


def test_a_sample_is_compared_with_seven_others_those_of_its_kind_among_them():
    for name, sample in SAMPLES.items():
        others = compared_with(name)
        assert len(others) == len(set(others)) == NEGATIVES - DRAWN_NEGATIVES
        assert name not in others
        assert {other for other, one in SAMPLES.items() if one.class_word == sample.class_word} - {name} <= {*others}


def test_colours_are_recoloured_in_their_shades():
    red, blue, white = (200, 30, 30), (30, 60, 220), (250, 250, 250)
    levels = np.array([[red, (140, 21, 21), white, (30, 200, 30)]], np.uint8)
    exchanged = recoloured(levels, [(red, blue), (blue, red)])
    assert exchanged[0].tolist() == [[*blue], [21, 42, 154], [*white], [30, 200, 30]]


@pytest.mark.parametrize("name", ["milo", "rosa"])
def test_hard_negatives_have_the_samples_places(name: str):
    own, negatives = sample_pictures(name), sample_negatives(name)
    assert [len(pictures) for pictures in negatives] == [5] * DRAWN_NEGATIVES
    differences = []
    for pictures in negatives:
        away = [
            np.abs(np.asarray(one, float) - np.asarray(other, float)).max(-1)
            for one, other in zip(own, pictures, strict=True)
        ]
        differences.append([(part > 40).mean() for part in away])
    assert np.min(differences) > 0.01, "each is another individual"
    assert np.max(differences) < 0.6, "the background is the same"
