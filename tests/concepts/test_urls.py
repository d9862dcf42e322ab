"""A library whose files are at a URL of fsspec, and its rows in PostgreSQL."""

from pathlib import Path

import pytest

from concepts import Library, LibraryError, UnavailableError
from concepts.storage import atomic_write, entries, read_file, storage_path
from tests.remote import RemoteFileSystem, StoreError

URL = "remote://bucket/library"


@pytest.fixture(autouse=True)
def store(monkeypatch, tmp_path) -> dict:
    """What the remote file system holds: nothing at first."""
    monkeypatch.setattr(RemoteFileSystem, "store", {})
    monkeypatch.setattr(RemoteFileSystem, "pseudo_dirs", [""])
    monkeypatch.setattr(RemoteFileSystem, "failing", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return RemoteFileSystem.store


@pytest.fixture
def remote(postgresql: str) -> Library:
    return Library(URL, postgresql)


def fail(after: int) -> None:
    """Fails all writes and copies after a given number."""
    RemoteFileSystem.failing = after


@pytest.mark.parametrize("url", [URL, "memory://bucket/{name}"])
def test_all_that_a_library_does(url, tmp_path, pictures, postgresql, details):
    library = Library(url.format(name=tmp_path.name), postgresql)
    added = library.add_concept("rex", "dog", [pictures])
    assert [read_file(path)[1:4] for path in added.pictures] == [b"PNG"] * 3
    library.store_result("rex", b"first", details, b"preview")
    library.store_result("rex", b"second", details)
    other = Library(library.root, postgresql)
    result = other.concept("rex").result
    assert result is not None
    assert (read_file(result.path), result.preview) == (b"second", None)
    assert len(entries(library.root / "results")) == 1, "the first is gone"
    assert str(result.path).startswith(str(library.root))
    other.remove_concept("rex")
    assert entries(library.root / "results") == entries(library.root / "pictures") == []
    assert library.concepts() == []


def test_caches_stay_on_this_machine(remote, tmp_path, pictures, store):
    concept = remote.add_concept("rex", "dog", [pictures])
    assert remote.local.parent == tmp_path / "cache" / "concept-studio" / "libraries"
    assert remote.runs(concept).is_relative_to(remote.local)
    assert str(remote.checkpoints(concept)) == f"{URL}/checkpoints/{concept.id}"
    assert all(name.startswith("/bucket/library/pictures/") for name in store)


def test_a_store_that_fails_leaves_the_library_as_it_was(remote, pictures, details, store):
    remote.add_concept("rex", "dog", [pictures])
    remote.store_result("rex", b"data", details)
    before, files = remote.concepts(), dict(store)
    for after in range(6):  # three pictures, each a write and a copy
        fail(after)
        with pytest.raises(UnavailableError, match="503: slow down"):
            remote.add_concept("milo", "cat", [pictures])
    for after in range(2):
        fail(after)
        with pytest.raises(UnavailableError, match="503"):
            remote.store_result("rex", b"new", details)
    assert remote.concepts() == before
    assert store == files


def test_a_file_is_there_whole_or_as_it_was(store):
    place = storage_path(URL) / "a"
    atomic_write(place, b"before")
    for after in (0, 1):
        fail(after)
        with pytest.raises(OSError, match="503") as raised:
            atomic_write(place, b"after")
        assert isinstance(raised.value.__cause__, StoreError)
        assert read_file(place) == b"before"
        assert list(store) == ["/bucket/library/a"]


def test_a_file_that_cannot_be_read(remote):
    with pytest.raises(UnavailableError, match=f"{URL}/a could not be read"):
        read_file(remote.root / "a")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (URL, "The library at remote://bucket/library is not a local folder .* Set --database or STUDIO_DATABASE"),
        ("s3://bucket/library", "Install s3fs"),
        ("nothing://library", "Unsupported filesystem: 'nothing'.*Check the URL"),
    ],
)
def test_a_url_that_cannot_be_used(url, sentence):
    with pytest.raises(LibraryError, match=sentence):
        Library(url)


def test_a_file_url_is_a_folder(tmp_path, pictures):
    library = Library(f"file://{tmp_path}/library")
    assert library.root == library.local == Path(tmp_path, "library").resolve()
    assert library.add_concept("rex", "dog", [pictures]) == Library(tmp_path / "library").concept("rex")
