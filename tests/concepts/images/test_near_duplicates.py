from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from concepts.images.near_duplicates import inspect_pictures


@pytest.fixture
def picture(tmp_path):
    """A function that writes a picture of noise of this size and seed, and returns its path."""

    def write(name: str, size: tuple[int, int] = (96, 96), seed: int = 0, **options) -> Path:
        noise = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size, Image.Resampling.NEAREST).save(tmp_path / name, **options)
        return tmp_path / name

    return write


def test_a_good_picture_has_no_notes(picture):
    (item,) = inspect_pictures([picture("a.png")])
    assert item.picture is not None
    assert item.picture.size == (96, 96)
    assert (item.problem, item.notes) == (None, [])


def test_an_unreadable_picture_is_reported_and_the_others_stay(picture, tmp_path):
    (tmp_path / "words.png").write_text("no picture at all")
    small, words, good = inspect_pictures([picture("s.png", (40, 90)), tmp_path / "words.png", picture("g.png")])
    assert small.picture is words.picture is None
    assert "s.png has only 40x90" in str(small.problem)
    assert "words.png is not a picture" in str(words.problem)
    assert good.picture is not None
    assert good.notes == []


def test_near_duplicates_are_noted(picture):
    first, other = picture("a.png", seed=1), picture("b.png", seed=2)
    again = picture("a2.jpg", (200, 200), seed=1, quality=40)
    items = inspect_pictures([first, other, again])
    assert [len(item.notes) for item in items] == [0, 0, 1]
    assert "nearly the same as a.png" in items[2].notes[0]
    (known,) = inspect_pictures([again], stored=[first])
    assert "a picture that the concept has" in known.notes[0]


def test_the_rare_orientation_is_noted(picture):
    wide = [picture(f"w{seed}.png", (160, 90), seed) for seed in (1, 2)]
    turned = Image.Exif()
    turned[0x0112] = 6
    tall, square = picture("t.jpg", (160, 90), 3, exif=turned), picture("q.png", (100, 96), 4)
    items = inspect_pictures([*wide, tall, square])
    assert [len(item.notes) for item in items] == [0, 0, 1, 0]
    assert items[2].notes[0].startswith("It is tall and most others are wide")
    assert items[2].picture is not None
    assert items[2].picture.size == (90, 160)
