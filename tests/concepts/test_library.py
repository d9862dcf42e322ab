import os
import re
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image

import concepts.images.import_files
from concepts import Library, LibraryError


def test_a_concept_is_stored(library, pictures):
    added = library.add_concept("Rex", "dog", [pictures])
    again = Library(library.root)
    assert again.concepts() == [added] == [again.concept("rEX")]
    assert (added.name, added.class_word, added.columns, added.result) == ("Rex", "dog", (), None)
    assert abs(datetime.now(UTC) - added.created) < timedelta(minutes=1)
    sizes = []
    for path in added.pictures:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            sizes.append(picture.size)
    assert sizes == [(64, 64), (65, 64), (66, 64)]


def test_concepts_come_oldest_first(library, pictures):
    for name in ("zoe", "adam", "mia"):
        library.add_concept(name, "cat", [pictures])
    assert [concept.name for concept in library.concepts()] == ["zoe", "adam", "mia"]


def test_stored_pictures_are_upright(library, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 70)).save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(library.add_concept("rex", "dog", [tmp_path / "turned.jpg"]).pictures[0]) as picture:
        assert picture.size == (70, 100)
        assert len(picture.getexif()) == 0


def test_names_never_become_paths(library, pictures, details, files):
    concept = library.add_concept("rex", "dog", [pictures])
    library.store_result("rex", b"data", details)
    assert not any("rex" in file for file in files(library))
    assert all(
        re.fullmatch(r"pictures/[0-9a-f]{32}/[0-9a-f]{32}\.png", str(p.relative_to(library.root)))
        for p in concept.pictures
    )


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 40])
def test_good_names(name, library, pictures):
    assert library.add_concept(name, "dog", [pictures]).name == name


@pytest.mark.parametrize("name", ["", "9lives", "-x", "_x", "a b", "../x", "x/y", "x\n", "é", "<rex>", "x" * 41])
def test_bad_names(name, library, pictures, unchanged):
    unchanged()
    with pytest.raises(LibraryError, match=r"is not a valid name. Use 1 to 40 letters"):
        library.add_concept(name, "dog", [pictures])


@pytest.mark.parametrize("word", ["", " ", "<dog>", "dog\n", "x" * 41])
def test_bad_class_words(word, library, pictures, unchanged):
    unchanged()
    with pytest.raises(LibraryError, match="is not a valid class word"):
        library.add_concept("rex", word, [pictures])


@pytest.mark.parametrize("word", ["dog", "tea pot", "café", "jack-in-the-box"])
def test_good_class_words(word, library, pictures):
    assert library.add_concept("rex", word, [pictures]).class_word == word


def test_a_name_used_twice_whatever_the_case(library, pictures, unchanged):
    library.add_concept("Rex", "dog", [pictures])
    unchanged()
    for name in ("Rex", "rex", "REX"):
        with pytest.raises(LibraryError, match=r'A concept "Rex" already exists. Choose another name'):
            library.add_concept(name, "cat", [pictures])


def test_a_name_taken_while_the_pictures_were_read(library, pictures, monkeypatch):
    real = concepts.images.import_files.read_with_alpha

    def read_and_be_overtaken(file, name):
        monkeypatch.setattr(concepts.images.import_files, "read_with_alpha", real)
        library.add_concept("rex", "dog", [pictures])
        return real(file, name)

    monkeypatch.setattr(concepts.images.import_files, "read_with_alpha", read_and_be_overtaken)
    with pytest.raises(LibraryError, match="already"):
        library.add_concept("REX", "cat", [pictures])
    (only,) = library.concepts()
    assert only.class_word == "dog"
    assert os.listdir(library.root / "pictures") == [only.id]


def test_too_many_pictures_and_none(library, tmp_path, unchanged):
    unchanged()
    many = tmp_path / "many"
    many.mkdir()
    for index in range(101):
        (many / f"{index}.png").touch()
    with pytest.raises(LibraryError, match=r"101 pictures were given. Give 1 to 100"):
        library.add_concept("rex", "dog", [many])
    with pytest.raises(LibraryError, match=r"0 pictures were given. Give 1 to 100"):
        library.add_concept("rex", "dog", [])


def test_a_bad_picture_among_good_ones(library, pictures, unchanged):
    unchanged()
    (pictures / "9.jpg").write_text("no picture")
    with pytest.raises(LibraryError, match=r"9\.jpg is not a picture"):
        library.add_concept("rex", "dog", [pictures])
    with pytest.raises(LibraryError, match=r"There is no file .*absent\.png"):
        library.add_concept("rex", "dog", [pictures / "0.jpg", pictures / "absent.png"])


def test_unknown_names_come_with_the_nearest(library, pictures, details):
    with pytest.raises(LibraryError, match=r'no concept "rex"\. The library has no concepts: add one'):
        library.concept("rex")
    for name in ("Rex", "milo"):
        library.add_concept(name, "dog", [pictures])
    with pytest.raises(LibraryError, match=r'no concept "rexx"\. Did you mean "Rex"\?'):
        library.concept("rexx")
    with pytest.raises(LibraryError, match=r'no concept "wolf"\. Run studio concept list'):
        library.concept("wolf")
    for call in (
        lambda: library.remove_concept("mylo"),
        lambda: library.allocate_columns("mylo", "abc", 8, 64),
        lambda: library.store_result("mylo", b"", details),
        lambda: library.set_scores("mylo", {}),
    ):
        with pytest.raises(LibraryError, match='Did you mean "milo"'):
            call()


def test_removing_takes_the_files_and_frees_name_and_columns(library, pictures, details, files):
    before = files(library)
    library.add_concept("rex", "dog", [pictures])
    library.allocate_columns("rex", "abc", 8, 64)
    library.store_result("rex", b"data", details)
    library.remove_concept("REX")
    assert library.concepts() == []
    assert files(library) == before
    library.add_concept("rex", "cat", [pictures])
    assert library.allocate_columns("rex", "abc", 8, 64).start == 0


def test_a_folder_of_concepts_can_be_moved(library, pictures, tmp_path, details):
    library.add_concept("rex", "dog", [pictures])
    library.store_result("rex", b"data", details)
    library.root.rename(tmp_path / "moved")
    moved = Library(tmp_path / "moved").concept("rex")
    assert moved.result is not None
    assert moved.result.path.read_bytes() == b"data"
    assert all(picture.is_file() for picture in moved.pictures)


def test_home_is_expanded_and_folders_are_made(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Library("~/a/b").root == tmp_path.resolve() / "a" / "b"
    assert (tmp_path / "a" / "b" / "studio.sqlite").is_file()


def test_the_newest_come_first_page_by_page_and_the_trained_alone(library, pictures, details):
    for name in ("one", "two", "three"):
        library.add_concept(name, "dog", [pictures])
    first = library.page(2, newest=True)
    assert [concept.name for concept in first] == ["three", "two"]
    assert [concept.name for concept in library.page(2, after=first[-1], newest=True)] == ["one"]
    library.store_result("two", b"trained", details)
    assert [concept.name for concept in library.page(newest=True, trained=True)] == ["two"]
