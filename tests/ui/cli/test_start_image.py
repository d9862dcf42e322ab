"""`studio generate --image`: files with their settings, `--like`, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from concepts import Library
from ui.services.gallery import settings_of


@pytest.fixture
def generate(studio: Callable, library: Library, tiny_folder: Path, tmp_path: Path, monkeypatch) -> Callable:
    """A function that generates one image in a folder with photo.png and mask.png, in a few steps."""
    Image.new("RGB", (80, 80), "green").save(tmp_path / "photo.png")
    mask = Image.new("L", (80, 80))
    mask.paste(255, (0, 0, 40, 80))
    mask.save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object):
        return studio("generate", *arguments, "--library", library.root, "--base", tiny_folder)

    return run


def test_images_keep_their_start_image_by_name(generate: Callable, tmp_path: Path):
    quick = ("--num-images", 2, "--num-inference-steps", 4)
    start = ("--image", tmp_path / "photo.png", "--mask", tmp_path / "mask.png", "--denoising-strength", 0.5)
    done = generate("a <rex>", *start, "--mask-blur", 0, *quick, "-o", "out", "--json")
    assert done.status == 0, done.err
    first, second = map(Path, done.document["pictures"])
    request, _ = settings_of(first)
    assert (request.image, request.mask) == ("photo.png", "mask.png")
    assert (request.denoising_strength, request.mask_blur) == (0.5, 0)
    with Image.open(first) as image, Image.open(second) as other:
        assert image.crop((8, 0, 16, 16)).getcolors() == [(128, (0, 128, 0))]
        assert image.tobytes() != other.tobytes()
    again = generate("--like", first, "-o", "again", "--json")
    assert again.status == 0, again.err
    with Image.open(first) as image, Image.open(again.document["pictures"][0]) as other:
        assert image.tobytes() == other.tobytes()


def test_like_says_which_file_is_missing(generate: Callable, tmp_path: Path):
    start = ("--image", "photo.png", "--mask", "mask.png")
    done = generate("a cat", *start, "--num-images", 1, "--num-inference-steps", 1, "-o", "out", "--json")
    (file,) = done.document["pictures"]
    (tmp_path / "photo.png").rename(tmp_path / "moved.png")
    refused = generate("--like", file, "-o", "again")
    assert refused.status == 2
    assert "with the start image photo.png, which is not in this folder. Give it with --image FILE." in refused.err
    other = generate("--like", file, "--image", "moved.png", "-o", "again", "--json")
    assert "The mask of a-cat-0.png is not used" in other.err
    request, _ = settings_of(Path(other.document["pictures"][0]))
    assert (request.image, request.mask) == ("moved.png", None)
    (tmp_path / "moved.png").rename(tmp_path / "photo.png")
    (tmp_path / "mask.png").unlink()
    refused = generate("--like", file, "-o", "third")
    assert "with the mask mask.png, which is not in this folder. Give it with --mask FILE." in refused.err
    assert not (tmp_path / "third").exists()


def test_like_an_image_of_a1111_that_had_a_start_image(generate: Callable, tmp_path: Path):
    from training.reporting.image_grid import png_bytes

    text = "a cat\nSteps: 4, CFG scale: 7, Seed: 1, Size: 16x16, Denoising strength: 0.5"
    (tmp_path / "theirs.png").write_bytes(png_bytes(Image.new("RGB", (16, 16)), {"parameters": text}))
    done = generate("--like", "theirs.png", "--num-images", 1, "-o", "out")
    assert done.status == 0, done.err
    assert "theirs.png was generated from a start image, which it does not name. --image FILE gives it." in done.err
    done = generate("--like", "theirs.png", "--image", "photo.png", "--num-images", 1, "-o", "out", "--json")
    assert settings_of(Path(done.document["pictures"][0]))[0].denoising_strength == 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mask", "mask.png"], "--mask is for a start image. Give one with --image FILE."),
        (["--denoising-strength", 0.5], "--denoising-strength is for a start image"),
        (["--mask-blur", 2], "--mask-blur is for a start image"),
        (["--image", "nowhere.png"], "There is no file nowhere.png"),
        (["--image", "photo.png", "--denoising-strength", 0], "denoising_strength must be more than 0"),
        (["--image", "photo.png", "--denoising-strength", 1.5], "denoising_strength must be at most 1"),
        (["--image", "photo.png", "--mask", "photo.png", "--mask-blur", -1], "mask_blur must be at least 0"),
        (["--image", "photo.png", "--mask", "out.txt"], "out.txt is not a picture"),
        (["--image", "photo.png", "--size", "18x16"], "multiples of 8"),
    ],
)
def test_what_cannot_be_is_refused(generate: Callable, tmp_path: Path, arguments: list[object], said: str):
    (tmp_path / "out.txt").write_text("no picture")
    refused = generate("a cat", *arguments, "-o", "out")
    assert (refused.status, said in refused.err) == (2, True), refused.err
    assert not (tmp_path / "out").exists()
