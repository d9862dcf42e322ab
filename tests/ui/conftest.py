"""The `studio` command in this process, and a library with trained concepts of the tiny base."""

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from concepts import Library
from studio.adapters.concept_file import to_bytes
from studio.models.base_model import load_base
from training.jobs.variants import add_variant
from ui.cli.main import main
from ui.services.workflow import Workflow


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@pytest.fixture
def studio(monkeypatch, capfd) -> Callable[..., Outcome]:
    """A function that runs the `studio` command with these arguments."""

    def run(*arguments: Any) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["studio", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        out, err = capfd.readouterr()
        return Outcome(status, out, err)

    return run


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of three pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, colour in enumerate(("navy", "orange", "teal")):
        picture = Image.new("RGB", (80, 64), colour)
        picture.paste("white", (0, 0, 10 + 10 * index, 30))
        picture.save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def whole_library(tmp_path_factory, tiny_folder: Path, make_concept) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    picture = folder / "0.png"
    Image.new("RGB", (80, 64), "navy").save(picture)
    library, base = Library(folder / "library"), load_base(str(tiny_folder), device="cpu")
    for name, word in (("rex", "dog"), ("Milo", "cat"), ("lora", "vase"), ("idle", "robot")):
        library.add_concept(name, word, [picture])
    fingerprint, capacity = base.decomposition.fingerprint, base.decomposition.capacity
    for seed, name in enumerate(("rex", "Milo", "lora")):
        adapter, options = "lora", {}
        if name != "lora":
            adapter = "spectral_additive"
            options["first_column"] = library.allocate_columns(name, fingerprint, 4, capacity).start
        concept = make_concept(base, name, adapter, seed, **options)
        details = {"base": fingerprint, "adapter": adapter, "rank": 4, "parameters": 1}
        library.store_result(name, to_bytes(concept), details)
    return library.local


@pytest.fixture
def library(tmp_path, whole_library: Path) -> Library:
    """Rex and Milo, trained in columns of their own; lora, trained with lora; and idle, which is not trained."""
    shutil.copytree(whole_library, tmp_path / "library")
    return Library(tmp_path / "library")


@pytest.fixture
def workflow(library: Library, tiny_folder: Path) -> Workflow:
    return Workflow(library.root, str(tiny_folder))


@pytest.fixture
def store_variant(make_concept) -> Callable[[Workflow, str, str, str, int], None]:
    """A function that adds a variant of a concept, as if it had been trained with this adapter and rank."""

    def store(workflow: Workflow, source: str, name: str, adapter: str, rank: int) -> None:
        add_variant(workflow.library, source, name)
        made = make_concept(workflow.base, name, adapter, 0, rank=rank)
        details = {"base": made.base, "adapter": adapter, "rank": rank, "parameters": 1}
        workflow.library.store_result(name, to_bytes(made), details)

    return store


@pytest.fixture
def state() -> Callable[[Library], tuple]:
    """A function that gives all that a library holds: a dump of its database, and its files with their bytes."""
    return _state


def _state(library: Library) -> tuple:
    with closing(sqlite3.connect(library.local / "studio.sqlite")) as connection:
        connection.execute("DELETE FROM column_uses WHERE holders = 0")  # says as much as no row
        dump = list(connection.iterdump())
        connection.rollback()
    own = ("studio.sqlite", "studio.lock", "columns/")  # the columns are a cache of the base's
    files = {str(path.relative_to(library.local)): path for path in library.local.rglob("*") if path.is_file()}
    return dump, {name: path.read_bytes() for name, path in files.items() if not name.startswith(own)}
