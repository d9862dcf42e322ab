import os
from pathlib import Path

import pytest

from concepts import LibraryError


def test_the_newest_result_counts(library, pictures, details):
    library.add_concept("rex", "dog", [pictures])
    old = library.store_result("rex", b"old", details)
    new = library.store_result("rex", b"new", {**details, "rank": 4, "scores": {"a": 1.5}, "losses": [2, 1]})
    assert library.concept("rex").result == new
    assert (new.base, new.adapter, new.rank, new.parameters) == ("abc", "lora", 4, 1234)
    assert (new.scores, new.details) == ({"a": 1.5}, {"losses": [2, 1]})
    assert (old.scores, old.details) == ({}, {})
    assert new.path.read_bytes() == b"new"
    assert os.listdir(library.root / "results") == [new.path.parent.name]


def test_scores(library, pictures, details):
    library.add_concept("rex", "dog", [pictures])
    with pytest.raises(LibraryError, match=r'"rex" has no training result to score. Train it first'):
        library.set_scores("rex", {"a": 1.0})
    library.store_result("rex", b"data", {**details, "scores": {"a": 0.0}})
    library.set_scores("rex", {"b": 0.5})
    result = library.concept("rex").result
    assert result is not None
    assert result.scores == {"b": 0.5}


def test_details_that_cannot_be_stored(library, pictures, unchanged, details):
    library.add_concept("rex", "dog", [pictures])
    library.store_result("rex", b"data", details)
    unchanged()
    with pytest.raises(LibraryError, match="have no key 'rank'"):
        library.store_result("rex", b"", {key: value for key, value in details.items() if key != "rank"})
    with pytest.raises(LibraryError, match="not plain JSON"):
        library.store_result("rex", b"", {**details, "path": Path()})
    with pytest.raises(LibraryError, match="not plain JSON"):
        library.set_scores("rex", {"a": object()})
