"""A library that this user cannot write to is read, also while another program has it open."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from concepts import Library, read_only
from concepts.errors import UnavailableError
from concepts.read_only import copy_database


@pytest.fixture
def library(tmp_path: Path) -> Library:
    Image.new("RGB", (80, 64), "navy").save(tmp_path / "0.png")
    library = Library(tmp_path / "library")
    library.add_concept("rex", "dog", [tmp_path / "0.png"])
    return library


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_it_is_read_and_changes_are_refused(library: Library, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(read_only.os, "access", lambda path, _: tmp_path / "library" not in (path, *Path(path).parents))
    before = contents(library.local)
    opened = Library(library.root)
    assert [concept.name for concept in opened.concepts()] == ["rex"]
    assert opened.local.is_relative_to(tmp_path / "cache")
    for change in (
        lambda: opened.remove_concept("rex"),
        lambda: opened.rename_concept("rex", "max"),
        lambda: opened.jobs.cancel("none"),
    ):
        with pytest.raises(UnavailableError, match="can only be read by this user"):
            change()
    assert contents(library.local) == before


@pytest.mark.parametrize("shared", [True, False])
def test_what_the_write_ahead_log_holds_is_copied(tmp_path: Path, shared: bool):
    file = tmp_path / "library" / "studio.sqlite"
    file.parent.mkdir()
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE pictures (name TEXT)")
        writer.execute("INSERT INTO pictures VALUES ('0.png')")
        assert file.with_name("studio.sqlite-wal").stat().st_size > 0
        place = file
        if not shared:  # as on a medium that was written while the library was open
            place = tmp_path / "copied" / file.name
            place.parent.mkdir()
            for each in (file, file.with_name("studio.sqlite-wal")):
                (place.parent / each.name).write_bytes(each.read_bytes())
        copy = copy_database(place)
    with closing(sqlite3.connect(copy)) as found:
        assert found.execute("SELECT name FROM pictures").fetchall() == [("0.png",)]


def test_without_a_database_there_is_no_library(tmp_path: Path, monkeypatch):
    (tmp_path / "library" / "pictures").mkdir(parents=True)
    (tmp_path / "library" / "results").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(read_only.os, "access", lambda path, _: False)
    with pytest.raises(UnavailableError, match="its folder cannot be made"):
        Library(tmp_path / "library")
