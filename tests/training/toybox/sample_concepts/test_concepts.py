from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageChops

from concepts.samples import FOLDER, PICTURES_EACH, SAMPLES
from training.toybox.sample_concepts.concepts import FIGURES, PLACES, POSES, SIDE, draw_figure, draw_sample
from training.toybox.scenes.individuals.traits import KINDS
from training.toybox.scenes.items import BACKGROUNDS, THINGS
from training.toybox.scenes.wording import synonyms


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=np.float32)


def test_twelve_individuals_in_four_classes_that_the_base_knows():
    classes = Counter(sample.class_word for sample in SAMPLES.values())
    assert classes == {"cat": 3, "dog": 3, "vase": 3, "robot": 3}
    words = {word for name in (*KINDS, *THINGS) for word in (name, *synonyms(name))}
    for name, sample in SAMPLES.items():
        assert name == sample.name
        assert name not in words
        assert sample.class_word in KINDS


def test_the_drawing_code_and_the_library_know_the_same_individuals():
    assert list(SAMPLES) == list(FIGURES) == list(PLACES)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: sample.name)
def test_five_small_square_pictures_in_the_repository(sample):
    assert len(sample.pictures) == PICTURES_EACH == 5
    seen = set()
    for path in sample.pictures:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (SIDE, SIDE))
            seen.add(picture.tobytes())
    assert len(seen) == PICTURES_EACH


def test_the_folder_is_light_and_has_no_other_files():
    files = set(FOLDER.rglob("*.png"))
    assert files == {path for sample in SAMPLES.values() for path in sample.pictures}
    assert sum(path.stat().st_size for path in files) < 3_000_000


def test_places_are_backgrounds_and_differ_within_and_between_individuals():
    for places in PLACES.values():
        assert len(set(places)) == PICTURES_EACH
        assert set(places) <= set(BACKGROUNDS)
        assert len({place.startswith("plain ") for place in places}) == 2
    shared = Counter(place for places in PLACES.values() for place in places)
    assert min(shared.values()) >= 2


@pytest.mark.parametrize("name", ["milo", "biscuit", "rosa", "orbo"])
def test_the_code_draws_the_stored_picture_again(name):
    again = draw_sample(name, 1)
    assert again.tobytes() == draw_sample(name, 1).tobytes()
    with Image.open(SAMPLES[name].pictures[1]) as stored:
        # Another release of Pillow may round an edge differently; another drawing differs by many levels.
        assert np.abs(pixels(stored) - pixels(again)).mean() < 1


@pytest.mark.parametrize("name", SAMPLES)
def test_the_whole_figure_is_on_its_canvas_and_moves_with_the_pose(name):
    figures = [draw_figure(FIGURES[name], pose) for pose in POSES[:2]]
    for figure in figures:
        assert 700 < figure.height < 1200
        assert figure.getchannel("A").getextrema()[1] == 255
    assert figures[0].size != figures[1].size or ImageChops.difference(*figures).getbbox()


def test_an_unknown_name_is_an_error():
    with pytest.raises(KeyError):
        draw_sample("nobody", 0)
