import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import event
from sqlalchemy.orm import Session

import concepts.library
from concepts import ColumnBlock, Library, LibraryError

DETAILS: dict[str, Any] = {"base": "abc", "adapter": "lora", "rank": 8, "parameters": 1234}


@pytest.fixture
def library(tmp_path) -> Library:
    return Library(tmp_path / "library")


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (64 + index, 64), "red").save(folder / f"{index}.jpg")
    return folder


def files(library: Library) -> set[str]:
    """All that lies in the library's folder, but for what SQLite keeps for itself."""
    return {
        str(path.relative_to(library.root)) for path in library.root.rglob("*") if not path.name.startswith("studio.")
    }


@pytest.fixture
def unchanged(library):
    """Asserts, when the test is over, that the library is as it was when the test called it."""
    states = []
    yield lambda: states.append((library.concepts(), files(library)))
    assert states == [(library.concepts(), files(library))]


def test_a_concept_is_kept(library, pictures):
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


def test_names_never_become_paths(library, pictures):
    concept = library.add_concept("rex", "dog", [pictures])
    library.store_result("rex", b"data", DETAILS)
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
    with pytest.raises(LibraryError, match="cannot be a name: use 1 to 40 letters"):
        library.add_concept(name, "dog", [pictures])


@pytest.mark.parametrize("word", ["", " ", "<dog>", "dog\n", "x" * 41])
def test_bad_class_words(word, library, pictures, unchanged):
    unchanged()
    with pytest.raises(LibraryError, match="cannot be a class word"):
        library.add_concept("rex", word, [pictures])


@pytest.mark.parametrize("word", ["dog", "tea pot", "café", "jack-in-the-box"])
def test_good_class_words(word, library, pictures):
    assert library.add_concept("rex", word, [pictures]).class_word == word


def test_a_name_used_twice_whatever_the_case(library, pictures, unchanged):
    library.add_concept("Rex", "dog", [pictures])
    unchanged()
    for name in ("Rex", "rex", "REX"):
        with pytest.raises(LibraryError, match='There is a concept "Rex" already: choose another name'):
            library.add_concept(name, "cat", [pictures])


def test_a_name_taken_while_the_pictures_were_read(library, pictures, monkeypatch):
    real = concepts.library.read_picture

    def read_and_be_overtaken(file, name):
        monkeypatch.setattr(concepts.library, "read_picture", real)
        library.add_concept("rex", "dog", [pictures])
        return real(file, name)

    monkeypatch.setattr(concepts.library, "read_picture", read_and_be_overtaken)
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
    with pytest.raises(LibraryError, match="Give 1 to 100 pictures, not 101"):
        library.add_concept("rex", "dog", [many])
    with pytest.raises(LibraryError, match="Give 1 to 100 pictures, not 0"):
        library.add_concept("rex", "dog", [])


def test_a_bad_picture_among_good_ones(library, pictures, unchanged):
    unchanged()
    (pictures / "9.jpg").write_text("no picture")
    with pytest.raises(LibraryError, match=r"9\.jpg is not a picture"):
        library.add_concept("rex", "dog", [pictures])
    with pytest.raises(LibraryError, match=r"There is no file .*absent\.png"):
        library.add_concept("rex", "dog", [pictures / "0.jpg", pictures / "absent.png"])


def test_unknown_names_come_with_the_nearest(library, pictures):
    with pytest.raises(LibraryError, match='no concept "rex": add it first'):
        library.concept("rex")
    for name in ("Rex", "milo"):
        library.add_concept(name, "dog", [pictures])
    with pytest.raises(LibraryError, match=r'no concept "rexx": did you mean "Rex"\?'):
        library.concept("rexx")
    with pytest.raises(LibraryError, match='no concept "wolf": list the concepts'):
        library.concept("wolf")
    for call in (
        lambda: library.remove_concept("mylo"),
        lambda: library.allocate_columns("mylo", "abc", 8, 64),
        lambda: library.store_result("mylo", b"", DETAILS),
        lambda: library.set_scores("mylo", {}),
    ):
        with pytest.raises(LibraryError, match='did you mean "milo"'):
            call()


def test_removing_takes_the_files_and_frees_name_and_columns(library, pictures):
    before = files(library)
    library.add_concept("rex", "dog", [pictures])
    library.allocate_columns("rex", "abc", 8, 64)
    library.store_result("rex", b"data", DETAILS)
    library.remove_concept("REX")
    assert library.concepts() == []
    assert files(library) == before
    library.add_concept("rex", "cat", [pictures])
    assert library.allocate_columns("rex", "abc", 8, 64).start == 0


def test_columns(library, pictures):
    for name in ("a", "b", "c"):
        library.add_concept(name, "dog", [pictures])
    assert library.allocate_columns("a", "abc", 8, 24) == ColumnBlock("abc", 0, 8)
    assert library.allocate_columns("b", "abc", 8, 24) == ColumnBlock("abc", 8, 8)
    assert library.allocate_columns("a", "abc", 8, 24) == ColumnBlock("abc", 0, 8), "it keeps what it holds"
    assert library.allocate_columns("b", "other base", 4, 24) == ColumnBlock("other base", 0, 4)
    assert library.allocate_columns("a", "abc", 4, 24) == ColumnBlock("abc", 0, 4), "another width replaces"
    assert library.allocate_columns("c", "abc", 8, 24) == ColumnBlock("abc", 16, 8)
    assert library.concept("b").columns == (ColumnBlock("abc", 8, 8), ColumnBlock("other base", 0, 4))
    assert library.allocate_columns("c", "abc", 8, 16).start == 0, "one that the base lacks is replaced"


def test_a_shared_block_names_the_others(library, pictures):
    for name in ("a", "b", "c", "d"):
        library.add_concept(name, "dog", [pictures])
    for name in ("a", "b"):
        library.allocate_columns(name, "abc", 8, 16)
    assert library.allocate_columns("d", "abc", 8, 16) == ColumnBlock("abc", 0, 8, ("a",))
    assert library.allocate_columns("c", "abc", 8, 16) == ColumnBlock("abc", 8, 8, ("b",))
    assert [concept.columns[0].shared_with for concept in library.concepts()] == [
        ("d",),
        ("c",),
        ("b",),
        ("a",),
    ]
    assert library.allocate_columns("c", "abc", 16, 16).shared_with == ("a", "b", "d")
    library.remove_concept("d")
    assert library.concept("a").columns[0].shared_with == ("c",)


def test_a_rank_beyond_the_base(library, pictures, unchanged):
    library.add_concept("rex", "dog", [pictures])
    library.allocate_columns("rex", "abc", 8, 64)
    unchanged()
    with pytest.raises(LibraryError, match="rank of 65 does not fit this base: choose a rank from 1 to 64"):
        library.allocate_columns("rex", "abc", 65, 64)


def test_the_newest_result_counts(library, pictures):
    library.add_concept("rex", "dog", [pictures])
    old = library.store_result("rex", b"old", DETAILS)
    new = library.store_result("rex", b"new", {**DETAILS, "rank": 4, "scores": {"a": 1.5}, "losses": [2, 1]})
    assert library.concept("rex").result == new
    assert (new.base, new.adapter, new.rank, new.parameters) == ("abc", "lora", 4, 1234)
    assert (new.scores, new.details) == ({"a": 1.5}, {"losses": [2, 1]})
    assert (old.scores, old.details) == ({}, {})
    assert new.path.read_bytes() == b"new"
    assert os.listdir(library.root / "results") == [new.path.parent.name]


def test_scores(library, pictures):
    library.add_concept("rex", "dog", [pictures])
    with pytest.raises(LibraryError, match='"rex" has no result to score: train it first'):
        library.set_scores("rex", {"a": 1.0})
    library.store_result("rex", b"data", {**DETAILS, "scores": {"a": 0.0}})
    library.set_scores("rex", {"b": 0.5})
    result = library.concept("rex").result
    assert result is not None
    assert result.scores == {"b": 0.5}


def test_details_that_cannot_be_kept(library, pictures, unchanged):
    library.add_concept("rex", "dog", [pictures])
    library.store_result("rex", b"data", DETAILS)
    unchanged()
    with pytest.raises(LibraryError, match="lack 'rank'"):
        library.store_result("rex", b"", {key: value for key, value in DETAILS.items() if key != "rank"})
    with pytest.raises(LibraryError, match="use plain JSON"):
        library.store_result("rex", b"", {**DETAILS, "path": Path()})
    with pytest.raises(LibraryError, match="use plain JSON"):
        library.set_scores("rex", {"a": object()})


@pytest.fixture
def failing_commit(monkeypatch):
    """Lets files be written and rows be sent, and then fails the commit."""

    def arm(error: BaseException):
        def fail(session):
            event.remove(Session, "before_commit", fail)
            raise error

        event.listen(Session, "before_commit", fail)

    return arm


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_between_file_and_commit_leaves_the_library_as_it_was(
    error, library, pictures, failing_commit, unchanged
):
    library.add_concept("rex", "dog", [pictures])
    library.store_result("rex", b"data", DETAILS)
    unchanged()
    expected = LibraryError if isinstance(error, OSError) else KeyboardInterrupt
    for call in (
        lambda: library.add_concept("milo", "cat", [pictures]),
        lambda: library.store_result("rex", b"new", DETAILS),
        lambda: library.remove_concept("rex"),
    ):
        failing_commit(error)
        with pytest.raises(expected):
            call()
    result = library.concept("rex").result
    assert result is not None
    assert result.path.read_bytes() == b"data"


def test_an_interrupt_just_after_the_commit_keeps_the_file(library, pictures):
    library.add_concept("rex", "dog", [pictures])

    def interrupt(session):
        event.remove(Session, "after_commit", interrupt)
        raise KeyboardInterrupt

    event.listen(Session, "after_commit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        library.store_result("rex", b"data", DETAILS)
    result = library.concept("rex").result
    assert result is not None
    assert result.path.read_bytes() == b"data"


def test_a_full_disk(library, pictures, monkeypatch, unchanged):
    library.add_concept("rex", "dog", [pictures])
    unchanged()

    def full(path, data):
        path.write_bytes(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(concepts.library, "atomic_write", full)
    with pytest.raises(LibraryError, match=r"No space left on device.*the disk has room"):
        library.add_concept("milo", "cat", [pictures])
    with pytest.raises(LibraryError, match="No space left on device"):
        library.store_result("rex", b"data", DETAILS)


def test_a_folder_of_concepts_can_be_moved(library, pictures, tmp_path):
    library.add_concept("rex", "dog", [pictures])
    library.store_result("rex", b"data", DETAILS)
    library.root.rename(tmp_path / "moved")
    moved = Library(tmp_path / "moved").concept("rex")
    assert moved.result is not None
    assert moved.result.path.read_bytes() == b"data"
    assert all(picture.is_file() for picture in moved.pictures)


def test_home_is_expanded_and_folders_are_made(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Library("~/a/b").root == tmp_path.resolve() / "a" / "b"
    assert (tmp_path / "a" / "b" / "studio.sqlite").is_file()
