import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

import concepts.library
from concepts import Library, LibraryError
from concepts.orphans import AGE_SECONDS
from concepts.tables import LeftoverRecord, new_id

TEMPORARY = ("columns/.{id}.tmp", ".{id}.tmp", "priors/.{id}.tmp", "columns/.tmp_8w0x.tmp/part")


def make(root: Path, pattern: str, age: float) -> Path:
    """A temporary file or folder of that age."""
    path = root / pattern.format(id=new_id())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half of")
    top = path.parent if path.name == "part" else path
    then = time.time() - age
    os.utime(top, (then, then))
    return top


def wait_a_day(library: Library) -> None:
    """Makes the notes a day older."""
    with library._database.writing() as session:
        for record in session.scalars(select(LeftoverRecord)):
            record.since -= timedelta(seconds=AGE_SECONDS)


def noted(library: Library) -> int:
    with library._database.reading() as session:
        return session.scalars(select(func.count()).select_from(LeftoverRecord)).one()


@pytest.mark.parametrize("pattern", TEMPORARY)
def test_temporary_files_go_when_they_are_old(pattern, library):
    old = make(library.root, pattern, AGE_SECONDS + 60)
    young = make(library.root, pattern.replace("tmp_8w0x", "tmp_9x1y"), AGE_SECONDS - 60)
    Library(library.root)
    assert not old.exists()
    assert young.exists()


def test_what_is_in_use_stays_however_old_it_is(library, pictures, details, files):
    library.add_concept("rex", "dog", [pictures])
    library.store_result("rex", b"data", details, b"preview")
    for name in ("columns/0123-32.safetensors", "priors/0123.safetensors", "notes/by hand.txt", "pictures/mine/a.png"):
        (library.root / name).parent.mkdir(exist_ok=True)
        (library.root / name).write_bytes(b"kept")
    before = files(library)
    for path in [library.root, *library.root.rglob("*")]:
        os.utime(path, (0, 0))
    assert noted(library) == 0
    assert Library(library.root).concept("rex").result == library.concept("rex").result
    assert files(library) == before


def test_what_comes_after_a_removal_goes_too(library, pictures, files):
    before = files(library)
    concept = library.add_concept("rex", "dog", [pictures])
    library.remove_concept("rex")
    late = library.checkpoints(concept) / "step-00000050.safetensors"
    late.parent.mkdir(parents=True)
    late.write_bytes(b"by a worker that had not heard of it")
    Library(library.root)
    assert late.exists()
    wait_a_day(library)
    Library(library.root)
    assert files(library) == before | {"checkpoints"}
    assert noted(library) == 0


def test_a_concept_that_takes_more_than_a_day_to_add_is_refused(library, pictures, monkeypatch, unchanged):
    real = concepts.library.store_picture

    def slow(*given):
        record = real(*given)
        wait_a_day(library)
        Library(library.root)
        return record

    unchanged()
    monkeypatch.setattr(concepts.library, "store_picture", slow)
    with pytest.raises(LibraryError, match="Try again"):
        library.add_concept("rex", "dog", [pictures / "0.jpg"])


KILLED = """
import os, sys
import concepts.library
from concepts import Library
def die(*_): os.kill(os.getpid(), 9)
if sys.argv[3] == "replace":
    os.replace = die
else:
    concepts.library.refuse_taken = lambda *_: die() if list((library.root / "pictures").iterdir()) else None
library = Library(sys.argv[1])
library.add_concept("rex", "dog", [sys.argv[2]])
"""


@pytest.mark.parametrize("point", ["replace", "commit"])
def test_a_process_that_is_killed_leaves_nothing_for_ever(point, library, pictures, files):
    before = files(library)
    done = subprocess.run([sys.executable, "-c", KILLED, library.root, pictures, point], timeout=60, check=False)
    assert done.returncode == -9
    assert files(library) != before
    assert Library(library.root).concepts() == []
    assert files(library) != before, "the process might still be running"
    wait_a_day(library)
    Library(library.root).add_concept("rex", "dog", [pictures])
    library.remove_concept("rex")
    assert files(library) == before
