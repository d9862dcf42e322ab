"""A disk that is full, a commit that fails, a process that is interrupted or killed."""

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

import concepts.images.import_files
import concepts.result_changes
from concepts import LibraryError


@pytest.fixture
def failing_commit(monkeypatch):
    """Fails the commit after a given number of commits."""

    def arm(error: BaseException, passing: int):
        commits = iter(range(passing + 1))

        def fail(session):
            if next(commits) == passing:
                event.remove(Session, "before_commit", fail)
                raise error

        event.listen(Session, "before_commit", fail)

    return arm


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_between_file_and_commit_leaves_the_library_as_it_was(
    error, library, pictures, failing_commit, unchanged, details
):
    library.add_concept("rex", "dog", [pictures])
    library.store_result("rex", b"data", details)
    unchanged()
    expected = LibraryError if isinstance(error, OSError) else KeyboardInterrupt
    for passing, call in (
        (0, lambda: library.add_concept("milo", "cat", [pictures])),
        (1, lambda: library.add_concept("milo", "cat", [pictures])),
        (1, lambda: library.store_result("rex", b"new", details)),
        (0, lambda: library.remove_concept("rex")),
    ):
        failing_commit(error, passing)
        with pytest.raises(expected):
            call()
    result = library.concept("rex").result
    assert result is not None
    assert result.path.read_bytes() == b"data"


def test_an_interrupt_just_after_the_commit_keeps_the_file(library, pictures, details):
    library.add_concept("rex", "dog", [pictures])

    commits = iter((False, True))  # the first notes the folder

    def interrupt(session):
        if next(commits):
            event.remove(Session, "after_commit", interrupt)
            raise KeyboardInterrupt

    event.listen(Session, "after_commit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        library.store_result("rex", b"data", details)
    result = library.concept("rex").result
    assert result is not None
    assert result.path.read_bytes() == b"data"


def test_a_full_disk(library, pictures, monkeypatch, unchanged, details):
    library.add_concept("rex", "dog", [pictures])
    unchanged()

    def full(path, data):
        path.write_bytes(data[:1])
        raise OSError(28, "No space left on device")

    for module in (concepts.images.import_files, concepts.result_changes):
        monkeypatch.setattr(module, "atomic_write", full)
    with pytest.raises(LibraryError, match=r"No space left on device.*the disk has free space"):
        library.add_concept("milo", "cat", [pictures])
    with pytest.raises(LibraryError, match="No space left on device"):
        library.store_result("rex", b"data", details)
