"""Captions and masks that are given to pictures of the library."""

import io

import pytest
from PIL import Image

from concepts import Library, LibraryError
from concepts.storage import read_file


@pytest.fixture
def library(library: Library, pictures) -> Library:
    library.add_concept("rex", "dog", [pictures])
    return library


def mask(width: int = 65) -> Image.Image:
    """What counts is the left half."""
    picture = Image.new("L", (width, 64))
    picture.paste(255, (0, 0, width // 2, 64))
    return picture


def test_captions_are_stored_and_removed(library: Library):
    library.annotations.set_caption("REX", 1, "  a dog\n on grass ")
    assert library.concept("rex").captions == (None, "a dog on grass", None)
    library.annotations.set_caption("rex", 1, " ")
    assert library.concept("rex").captions == (None, None, None)


def test_masks_are_stored_and_removed(library: Library):
    library.annotations.set_mask("rex", 1, mask())
    _, kept, _ = library.concept("rex").masks
    assert kept
    with Image.open(io.BytesIO(read_file(kept))) as stored:
        assert (stored.mode, stored.size) == ("L", (65, 64))
        assert (stored.getpixel((1, 1)), stored.getpixel((60, 1))) == (255, 0)
    library.annotations.set_mask("rex", 1, None)
    assert library.concept("rex").masks == (None, None, None)
    assert not kept.exists()


@pytest.mark.parametrize(
    ("picture", "drawn", "sentence"),
    [(3, mask(), "no picture 4"), (-1, None, "no picture 0"), (0, mask(65), "a mask of the picture's size"),
     (0, Image.new("L", (64, 64)), "The mask is empty")],
)  # fmt: skip
def test_a_mask_that_does_not_fit_is_refused(library: Library, unchanged, picture, drawn, sentence):
    unchanged()
    with pytest.raises(LibraryError, match=sentence):
        library.annotations.set_mask("rex", picture, drawn)


def test_a_long_caption_is_refused(library: Library, unchanged):
    unchanged()
    with pytest.raises(LibraryError, match="Shorten it to"):
        library.annotations.set_caption("rex", 0, "ü" * 1001)
