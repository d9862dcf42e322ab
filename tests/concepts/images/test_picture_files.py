"""The pictures in folders as people have them, and what is told of the rest."""

from pathlib import Path

import pytest
from PIL import Image

from concepts import LibraryError
from concepts.images.import_files import import_picture
from concepts.images.picture_files import list_pictures, picture_files


def test_folders_are_expanded(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "a.txt", ".hidden.png", "sub/c.png"):
        (tmp_path / name).touch()
    assert [file.name for file in picture_files([tmp_path])] == ["a.JPG", "b.png"]
    assert [file.name for file in picture_files([tmp_path / "b.png", tmp_path])] == ["b.png", "a.JPG"]


def test_an_empty_folder(tmp_path):
    with pytest.raises(LibraryError, match="has no pictures"):
        picture_files([tmp_path])


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").touch()
    assert picture_files(["~/a.png"]) == [(tmp_path / "a.png").resolve()]
    with pytest.raises(LibraryError, match="Check the paths"):
        picture_files(["~nobody-of-this-name/a.png"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("1.jfif", "2.JPE", "3.avif", "4.heic", "5.tiff", "6-mask.jpg", "5-mask.png", "7.jpg"):
        (folder / name).touch()
    for name in ("1.txt", "2.caption", "3.avif.txt", "5.TXT", "8.txt", "Thumbs.db", ".DS_Store", "._7.jpg", "7.mp4"):
        (folder / name).write_text("a dog")
    (folder / "9.png").symlink_to(tmp_path / "missing.png")
    return folder


def test_what_a_folder_holds_and_is_not_taken_is_told_with_the_reason(folder: Path):
    listing = list_pictures([folder])
    taken = ["1.jfif", "2.JPE", "3.avif", "4.heic", "5.tiff", "6-mask.jpg", "7.jpg"]
    assert [file.name for file in listing.pictures] == taken
    assert {file.name: reason for file, reason in listing.skipped.items()} == {
        ".DS_Store": "a hidden file", "._7.jpg": "a hidden file", "7.mp4": "no picture by its ending",
        "8.txt": "a caption without a picture of its name", "9.png": "a link to a missing file",
        "Thumbs.db": "no picture by its ending", "more": "a folder",
    }  # fmt: skip
    note = listing.note()
    assert note
    assert note.startswith("Not taken: .DS_Store (a hidden file), ._7.jpg (a hidden file), 7.mp4 (no picture")
    for number in range(10):
        (folder / f"{number}.zip").touch()
    note = list_pictures([folder]).note()
    assert note
    assert note.endswith(
        ", and 7 more (no picture by its ending, a caption without a picture of its name, "
        "a link to a missing file, a folder)."
    )
    assert list_pictures([folder / "1.jfif"]).note() is None


def test_a_folder_of_folders_names_one(tmp_path: Path):
    (tmp_path / "10_rex dog").mkdir()
    with pytest.raises(LibraryError, match=r"It has folders: give one of them, such as .*10_rex dog\."):
        picture_files([tmp_path])


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("1.txt", b"\xef\xbb\xbfa dog", "a dog"),
        ("1.txt", "a café".encode("utf-16"), "a café"),
        ("1.txt", "a café".encode("utf-16-be"), None),
        ("1.txt", b"\xfe\xff" + "a café".encode("utf-16-be"), "a café"),
        ("1.TXT", "a café, “rex”".encode("cp1252"), "a café, “rex”"),
        ("1.caption", b"a\r\ndog", "a dog"),
        ("1.png.txt", b"a dog", "a dog"),
        ("1.txt", b"a\0dog", None),
        ("1.txt", b"caf\x81", None),
    ],
)
def test_captions_of_every_encoding_are_read_or_named(tmp_path: Path, name, data, expected):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "1.png")
    (tmp_path / name).write_bytes(data)
    if expected is None:
        with pytest.raises(LibraryError, match=r"The caption .*1.* is no text\. Save it as plain text"):
            import_picture(tmp_path / "1.png", "1.png")
    else:
        assert import_picture(tmp_path / "1.png", "1.png").caption == expected


@pytest.mark.parametrize("stem", ["x" * 242, "犬" * 80])
def test_a_name_as_long_as_the_disk_takes(tmp_path: Path, stem):
    file = tmp_path / f"{stem}.png"
    Image.new("RGB", (64, 64), "red").save(file)
    file.with_suffix(".txt").write_text("a dog")
    assert import_picture(file, file.name).caption == "a dog"
    assert picture_files([tmp_path]) == [file]


def test_an_empty_mask_and_a_picture_without_anything_to_see_are_refused(tmp_path: Path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "1.png")
    Image.new("L", (64, 64)).save(tmp_path / "1-mask.png")
    with pytest.raises(LibraryError, match=r"The mask of 1\.png is empty"):
        import_picture(tmp_path / "1.png", "1.png")
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "2.png")
    with pytest.raises(LibraryError, match=r"2\.png is transparent everywhere"):
        import_picture(tmp_path / "2.png", "2.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "2-mask.png")
    assert import_picture(tmp_path / "2.png", "2.png").mask is not None


def test_captions_that_are_not_used_are_told(tmp_path: Path):
    for name in ("1.png", "2.png", "3.png"):
        (tmp_path / name).touch()
    for name, text in {"1.txt": "a dog", "1.caption": "a cat", "2.txt": " \n"}.items():
        (tmp_path / name).write_text(text)
    listing = list_pictures([tmp_path])
    assert {file.name: reason for file, reason in listing.skipped.items()} == {
        "1.caption": "1.txt is the caption", "2.txt": "an empty caption",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("count", "end"), [(10, "9.zip (no picture by its ending)."), (11, "9.zip (no picture by its ending)."),
                       (12, ", and 2 more (no picture by its ending).")],
)  # fmt: skip
def test_a_note_tells_the_reasons_of_all(tmp_path: Path, count: int, end: str):
    (tmp_path / "1.png").touch()
    for number in range(count):
        (tmp_path / f"{number}.zip").touch()
    note = list_pictures([tmp_path]).note()
    assert note
    assert note.endswith(end)
