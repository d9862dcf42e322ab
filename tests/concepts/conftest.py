"""A library, pictures to add, and the contents of its folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from concepts import Library


@pytest.fixture
def details() -> dict[str, Any]:
    """What a result must have."""
    return {"base": "abc", "adapter": "lora", "rank": 8, "parameters": 1234}


@pytest.fixture
def library(tmp_path) -> Library:
    return Library(tmp_path / "library")


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of three pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (64 + index, 64), "red").save(folder / f"{index}.jpg")
    return folder


@pytest.fixture
def files() -> Callable[[Library], set[str]]:
    """A function that lists the files in the library's folder, without SQLite's own."""

    def listed(library: Library) -> set[str]:
        return {
            str(path.relative_to(library.local))
            for path in library.local.rglob("*")
            if not path.name.startswith("studio.")
        }

    return listed


@pytest.fixture
def unchanged(library, files) -> Iterator[Callable[[], None]]:
    """Asserts, when the test is over, that the library is as it was when the test called it."""
    states = []
    yield lambda: states.append((library.concepts(), files(library)))
    assert states == [(library.concepts(), files(library))]
