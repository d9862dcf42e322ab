import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from concepts import Library
from concepts.leftovers import AGE_SECONDS
from concepts.records import new_id

LEFT = ("pictures/{id}/one.png", "results/{id}/concept.safetensors", "columns/.{id}.tmp", ".{id}.tmp",
        "priors/.{id}.tmp", "columns/.tmp_8w0x.tmp/part")  # fmt: skip


def make(root: Path, pattern: str, age: float) -> Path:
    """A leftover of that age; what is looked at is the first thing below the known folders."""
    path = root / pattern.format(id=new_id())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half of")
    top = path.parent if path.parent.name not in ("columns", "priors", root.name) else path
    then = time.time() - age
    os.utime(top, (then, then))
    return top


@pytest.mark.parametrize("pattern", LEFT)
def test_what_a_killed_process_left_goes_when_it_is_old(pattern, library):
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
    assert Library(library.root).concept("rex").result == library.concept("rex").result
    assert files(library) == before


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
    assert files(library) != before, "it might still be at work"
    for path in library.root.rglob("*"):
        os.utime(path, (0, 0))
    Library(library.root).add_concept("rex", "dog", [pictures])
    library.remove_concept("rex")
    assert files(library) == before
