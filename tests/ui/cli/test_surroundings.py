"""What machines do to commands: terminals, folders, disks."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from concepts import Library
from ui.services import image_files
from ui.services.error_messages import sentence

QUICK = ("--num-images", "3", "--batch-size", "2", "--num-inference-steps", "1")


def test_a_prompt_that_is_not_utf8_is_refused(studio, tmp_path):
    outcome = studio("generate", os.fsdecode(b"a caf\xe9"), "-o", tmp_path / "out")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        "Error: The argument a caf\\udce9 is not UTF-8. Write it in UTF-8, or set the terminal to it.\n"
    )


def test_a_file_whose_name_is_not_utf8_is_taken(studio, library: Library, tmp_path):
    file = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Image.new("RGB", (80, 64), "navy").save(file)
    outcome = studio("concept", "add", "cafe", file, "--class", "vase", "--library", library.root)
    assert outcome.status == 0, outcome.err


def test_a_terminal_without_a_character_gets_an_escape(studio, library: Library, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", out)
    assert studio("concept", "show", "rex", "--library", library.root).status == 0
    print("…", file=out)
    assert out.buffer.getvalue().endswith(b"\\u2026\n")  # type: ignore[attr-defined]


def test_a_working_folder_that_is_gone_is_told(studio, library: Library, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    outcome = studio("concept", "list", "--library", library.root)
    monkeypatch.chdir(tmp_path)
    assert (outcome.status, outcome.out) == (2, "")
    assert "The working folder no longer exists" in outcome.err


def test_python_without_docstrings_is_told_and_the_package_can_be_run():
    command = [sys.executable, "-OO", "-m", "ui", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    told = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("Error: Python runs without docstrings (-OO")
    command[1] = "-O"
    shown = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert shown.returncode == 0
    assert "Usage: " in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [("generate", "a cat", "-o"), ("merge", "rex", "-o"), ("export", "rex", "-o"), ("demo", "-o"),
     ("mask", "a.png", "-o"), ("study", "cost", "-o"), ("analyse", "rex", "-o"), ("concept", "show", "rex", "-o")],
)  # fmt: skip
def test_an_output_that_cannot_be_written_is_refused_before_any_work(studio, tmp_path, arguments):
    (tmp_path / "file").write_text("in the way")
    outcome = studio(*arguments, tmp_path / "file" / "made.safetensors")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        f"Error: {tmp_path / 'file'} is, or is below, a file where a folder is needed. Choose another path.\n"
    )
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_pictures_without_room_are_saved_in_the_library(studio, library: Library, tiny_folder, tmp_path, monkeypatch):
    whole, saved = image_files.save_new, []

    def full(folder: Path, stem: str, data: bytes) -> Path:
        if folder.name == "out" and saved:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(whole(folder, stem, data))
        return saved[-1]

    monkeypatch.setattr(image_files, "save_new", full)
    at = ("--library", library.root, "--base", tiny_folder, "-o", tmp_path / "out")
    outcome = studio("generate", "a <rex>", *at, *QUICK)
    assert (outcome.status, outcome.out) == (2, "")
    kept = library.local / "generated"
    assert f"No room is left on the disk of {tmp_path / 'out'}" in outcome.err
    assert f"saved elsewhere: {kept / 'a-rex-1.png'}, {kept / 'a-rex-2.png'}." in outcome.err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a-rex-0.png"]
    assert all(Image.open(file).info["prompt"] == "a <rex>" for file in saved)


def test_a_file_that_was_only_begun_is_removed(tmp_path):
    with pytest.raises(TypeError):
        image_files.save_new(tmp_path, "a", "no bytes")  # type: ignore[arg-type]
    assert [*tmp_path.iterdir()] == []


def test_a_picture_like_another(studio, library: Library, tiny_folder, tmp_path):
    at = ("--library", library.root, "--base", tiny_folder)
    first = studio("generate", "a <rex:0.5>", *at, *QUICK, "--seed", 4, "-o", tmp_path / "first", "--json")
    picture = first.document["pictures"][1]
    again = studio("generate", "--like", picture, *at, "-o", tmp_path / "again", "--json")
    assert again.document["prompt"] == "a <rex>"
    assert [Path(each).read_bytes() for each in again.document["pictures"]] == [Path(picture).read_bytes()]
    other = studio("generate", "--like", picture, *at, "--seed", 9, "--num-images", 2, "-o", tmp_path, "--json")
    settings = [Image.open(each).info for each in other.document["pictures"]]
    assert [each["seed"] for each in settings] == ["9", "10"]
    assert settings[0]["strengths"] == '{"rex": 0.5}'
    assert "Give either a prompt" in studio("generate", *at).err


@pytest.mark.parametrize(
    ("number", "name", "expected"),
    [(errno.EACCES, "/a/b.png", "/a/b.png may not be read"), (errno.ENOSPC, None, "the files that are written"),
     (errno.EROFS, "/a/.5a5c.tmp", "/a is on a read-only disk"), (errno.ENAMETOOLONG, "x", "Choose a shorter one"),
     (errno.ECONNRESET, None, "[Errno")],
)  # fmt: skip
def test_errors_of_the_system_are_sentences(number, name, expected):
    assert expected in sentence(OSError(number, os.strerror(number), name))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "a cat"],
        ["generate", "a cat", "-o", "out/below"],
        ["export", "rex", "-o", "below/rex.safetensors"],
        ["merge", "rex", "-o", "rex.safetensors"],
        ["concept", "show", "rex", "-o", "plots.png"],
        ["demo"],
    ],
)
def test_a_folder_that_cannot_be_written_is_named_with_the_option(
    studio, monkeypatch, tmp_path, code: int, arguments: list[str]
):
    def refuse(**_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("concepts.storage.tempfile.TemporaryFile", refuse)
    done = studio(*arguments)
    assert done.status == 2
    assert f"The folder {tmp_path} cannot be written by this user." in done.err
    assert done.err.endswith("Give another place with -o.\n")


@pytest.mark.parametrize("home", ["a file", "below a file"])
def test_a_home_that_can_hold_no_library_is_told_with_the_option(studio, monkeypatch, tmp_path, home: str):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file" / ("below" if home == "below a file" else "")))
    monkeypatch.delenv("STUDIO_LIBRARY", raising=False)
    done = studio("concept", "list")
    assert done.status == 2
    assert "cannot be opened, since a file is in the place of a folder. Give another place with --library" in done.err


def test_a_home_that_is_not_known_is_told(studio, monkeypatch):
    monkeypatch.setattr("pathlib.Path.expanduser", _unknown)
    done = studio("concept", "list", "--library", "~/library")
    assert (done.status, "The home folder in ~/library is not known. Set HOME" in done.err) == (2, True)


def _unknown(_: object) -> None:
    raise RuntimeError("Could not determine home directory.")


def test_the_empty_prompt_is_a_prompt(studio, tmp_path, tiny_folder):
    quick = ["--num-images", 1, "--num-inference-steps", 1, "--base", tiny_folder, "--library", tmp_path / "library"]
    done = studio("generate", "", *quick, "-o", tmp_path / "out")
    assert (done.status, len([*(tmp_path / "out").iterdir()])) == (0, 1), done.err
    (written,) = (tmp_path / "out").iterdir()
    assert studio("generate", "", "--like", written, *quick, "-o", tmp_path / "again").status == 0
