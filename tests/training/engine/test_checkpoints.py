import errno
import os
from pathlib import Path

import pytest
import torch

import training.engine.checkpoints
from concepts.errors import StudioError
from concepts.storage import StoragePath
from training.engine.checkpoints import Checkpoints


def state(step: int) -> dict:
    return {"losses": [0.1] * step, "pair": (1, 2.5), 3: {"values": torch.full((2, 3), step)}, "none": None}


@pytest.fixture
def kept(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path / "job")


def assert_state(found: dict | None, step: int) -> None:
    expected = state(step)
    assert found is not None
    values = found.pop(3)["values"]
    assert torch.equal(values, expected.pop(3)["values"])
    assert values.dtype == torch.int64
    assert found == expected


def files(kept: Checkpoints) -> list[StoragePath]:
    return sorted(kept.folder.iterdir(), key=str)


def test_a_state_comes_back_as_it_was(kept: Checkpoints):
    assert kept.newest() is None
    kept.save(7, state(7))
    assert_state(kept.newest(), 7)
    awkward = {"floats": [0.1 + 0.2, 1e-300, -0.0], "empty": {}, "scalar": torch.tensor(0.5, dtype=torch.bfloat16)}
    kept.save(8, awkward)
    found = kept.newest()
    assert found
    assert [value.hex() for value in found["floats"]] == [value.hex() for value in awkward["floats"]]
    assert (found["scalar"].dtype, found["scalar"].shape) == (torch.bfloat16, ())


def test_the_newest_two_stay(kept: Checkpoints):
    for step in (50, 100, 1000):
        kept.save(step, state(step))
    assert [path.name[:13] for path in files(kept)] == ["step-00000100", "step-00001000"]
    assert_state(kept.newest(), 1000)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_torn_checkpoint_is_removed_and_the_one_before_used(kept: Checkpoints, damage: str):
    kept.save(50, state(50))
    torn = kept.save(100, state(100))
    data = bytearray(torn.read_bytes())
    data[-1] ^= 1
    torn.write_bytes({"cut": data[: len(data) // 2], "flipped": data, "empty": b""}[damage])
    assert_state(kept.newest(), 50)
    assert not torn.exists()
    kept.save(100, state(100))
    assert_state(kept.newest(), 100)


def test_what_was_not_finished_is_removed(kept: Checkpoints):
    kept.save(50, state(50))
    (kept.folder / ".0123abc.tmp").write_bytes(b"half of a check")
    assert_state(kept.newest(), 50)
    assert len(files(kept)) == 1


def test_a_write_error_is_reported_and_earlier_checkpoints_stay(kept: Checkpoints, monkeypatch):
    kept.save(50, state(50))

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(training.engine.checkpoints, "atomic_write", full)
    with pytest.raises(StudioError, match=r"checkpoint at step 100 could not be written .*No space left on device"):
        kept.save(100, state(100))
    assert_state(kept.newest(), 50)
