import os

import pytest

from concepts.storage import atomic_write, make_folder, remove


def test_writes_and_replaces(tmp_path):
    file = tmp_path / "a"
    for data in (b"one", b"", b"three"):
        atomic_write(file, data)
        assert file.read_bytes() == data
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_file_before_and_nothing_else(step, tmp_path, monkeypatch):
    file = tmp_path / "a"
    atomic_write(file, b"before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(file, b"after")
    assert file.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a"]


def test_the_data_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    steps = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("fsync"), real_fsync(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("replace"), real_replace(a, b)))
    atomic_write(tmp_path / "a", b"data")
    assert steps == ["fsync", "replace", "fsync"]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    atomic_write(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_remove_takes_files_folders_and_nothing(tmp_path):
    make_folder(tmp_path / "folder")
    atomic_write(tmp_path / "folder" / "a", b"")
    atomic_write(tmp_path / "b", b"")
    for name in ("folder", "b", "absent"):
        remove(tmp_path / name)
    assert os.listdir(tmp_path) == []
