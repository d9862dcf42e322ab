"""Captions and masks that lie beside pictures."""

from pathlib import Path

import pytest
from PIL import Image

from concepts import LibraryError
from concepts.images.import_files import MAX_CAPTION, class_word_of, read_caption, read_mask, repeats_of


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three pictures: one with a caption and a drawn mask, one that is half transparent, and one alone."""
    folder = tmp_path / "described"
    folder.mkdir()
    for name in ("a", "c"):
        Image.new("RGB", (80, 64), "red").save(folder / f"{name}.png")
    mask = Image.new("RGB", (80, 64), "black")
    mask.paste("white", (0, 0, 40, 64))
    mask.save(folder / "a-masklabel.png")
    (folder / "a.txt").write_text("  a dog,\n on the grass ")
    clear = Image.new("RGBA", (80, 64), (0, 0, 255, 255))
    clear.paste((0, 0, 0, 0), (0, 0, 80, 32))
    clear.save(folder / "b.png")
    (folder / "b.txt").write_text(" \n")
    return folder


def test_captions_and_masks_are_stored_in_the_library(library, folder: Path):
    concept = library.add_concept("rex", "dog", [folder])
    assert len(concept.pictures) == 3
    assert concept.captions == ("a dog, on the grass", None, None)
    drawn, transparent, none = concept.masks
    assert none is None
    with Image.open(drawn) as mask:
        assert (mask.mode, mask.size) == ("L", (80, 64))
        assert (mask.getpixel((10, 10)), mask.getpixel((70, 10))) == (255, 0)
    with Image.open(transparent) as mask:
        assert (mask.getpixel((10, 10)), mask.getpixel((10, 60))) == (0, 255)
    with Image.open(concept.pictures[1]) as picture:
        assert picture.getpixel((10, 10)) == (255, 255, 255)
    assert library.concepts() == [concept]
    library.remove_concept("rex")
    assert not drawn.exists()


def test_a_picture_without_anything_beside_it(folder: Path):
    assert read_caption(folder / "c.png") is None
    assert read_mask(folder / "c.png") is None
    Image.new("RGBA", (80, 64), (1, 2, 3, 255)).save(folder / "c.png")
    assert read_mask(folder / "c.png") is None


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"a" * (MAX_CAPTION + 1), "too long"),
        ("a.txt", b"\xff\xfe\x00", "Save it as plain text"),
        ("a-mask.png", b"no picture", "a-mask.png is not a picture"),
    ],
)
def test_an_unreadable_file_is_reported_and_nothing_is_added(
    library, folder: Path, unchanged, name: str, data: bytes, message
):
    (folder / name).write_bytes(data)
    unchanged()
    with pytest.raises(LibraryError, match=message):
        library.add_concept("rex", "dog", [folder])


def test_a_mask_of_another_size_is_refused(library, folder: Path, unchanged):
    Image.new("L", (64, 64)).save(folder / "c-mask.png")
    unchanged()
    with pytest.raises(LibraryError, match=r"The mask of c\.png has the size \(64, 64\), and the picture \(80, 64\)"):
        library.add_concept("rex", "dog", [folder])


@pytest.mark.parametrize(
    ("folder", "repeats"), [("10_rex dog", 10), ("3_rex", 3), ("0_rex", 1), ("rex", 1), ("rex_10", 1), ("12345_rex", 1)]
)
def test_a_folder_named_as_kohyas_says_the_repeats(folder: str, repeats: int):
    assert repeats_of(folder) == repeats


@pytest.mark.parametrize(
    ("folders", "word"),
    [
        (["10_rex dog"], "dog"),
        (["10_rex teddy bear", "2_rex teddy bear"], "teddy bear"),
        (["10_rex dog", "5_rex cat"], None),
        (["10_rex"], None),
        (["rex dog"], None),
        ([], None),
    ],
)
def test_a_folder_named_as_kohyas_says_the_class_word(folders: list[str], word: str | None):
    assert class_word_of(folders) == word


def test_repeats_are_kept_in_the_library(library, folder: Path):
    often = folder.rename(folder.with_name("7_rex dog"))
    other = folder.with_name("back")
    other.mkdir()
    Image.new("RGB", (80, 64), "green").save(other / "d.png")
    concept = library.add_concept("rex", "dog", [often, other])
    assert concept.repeats == (7, 7, 7, 1)
    assert library.concept("rex").repeats == concept.repeats
