import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file

from studio.diffusion import Base
from training.dataset import build_training_set, class_prompts, fitted, other_prompts, prior_steps

pytestmark = pytest.mark.usefixtures("quick_priors")


@pytest.fixture
def pictures() -> list[Image.Image]:
    """Two pictures that are not their own mirror images."""
    whole = [Image.new("RGB", (64, 64), colour) for colour in ("navy", "white")]
    for picture, colour in zip(whole, ("yellow", "black"), strict=True):
        picture.paste(colour, (0, 0, 20, 64))
    return whole


def test_a_picture_is_cut_to_its_middle_square():
    wide = Image.new("RGB", (80, 40), "red")
    wide.paste("blue", (20, 0, 60, 40))
    square = fitted(wide.convert("P"), 16)
    assert (square.size, square.mode) == ((16, 16), "RGB")
    red, _, blue = square.getpixel((8, 8))  # pyright: ignore[reportGeneralTypeIssues]
    assert blue > 250 > 5 > red
    assert np.asarray(square)[2:14, 2:14, 0].max() < 5


@pytest.mark.parametrize("count", [1, 2, 24, 100])
def test_prior_prompts_are_of_the_class_or_of_everything_else(count: int):
    of_class, others = class_prompts("dog", count), other_prompts("dog", count)
    assert len(of_class) == len(others) == count
    assert all("dog" in prompt for prompt in of_class)
    assert not any("dog" in prompt.split() for prompt in others)
    assert len(set(of_class)) >= min(count, 10)
    assert len(set(others)) >= min(count, 20)


def test_pictures_are_encoded_with_their_mirror_images(base: Base, pictures: list[Image.Image]):
    data = build_training_set(base, pictures, "dog", 2)
    squares = [fitted(picture, base.side) for picture in pictures]
    expected = base.encode_pictures([*squares, *map(ImageOps.mirror, squares)])
    assert torch.equal(data.concept, expected)
    assert not torch.allclose(expected[0], expected[2], atol=1e-3)
    assert torch.equal(build_training_set(base, pictures, "dog", 2, flip=False).concept, expected[:2])


def test_half_of_the_prior_pictures_are_of_the_class(base: Base, pictures: list[Image.Image]):
    data = build_training_set(base, pictures, "dog", 5)
    for (latents, prompts), count in ((data.class_prior, 2), (data.other_prior, 3)):
        assert latents.shape == (count, 4, 8, 8)
        assert latents.isfinite().all()
        assert len(prompts) == count
    assert data.class_prior[1] == class_prompts("dog", 2)
    assert data.other_prior[1] == other_prompts("dog", 3)
    assert not torch.equal(data.other_prior[0][0], data.other_prior[0][1])


@pytest.mark.parametrize("count", [2, 5, 18])
def test_the_steps_of_painting_are_told_beforehand(base: Base, pictures: list[Image.Image], count: int):
    told = []
    build_training_set(base, pictures, "dog", count, on_step=lambda: told.append(1))
    assert len(told) == prior_steps(count)


def test_prior_pictures_are_painted_once(base: Base, pictures: list[Image.Image], tmp_path):
    told = []
    cache = tmp_path / "not" / "yet"
    first = build_training_set(base, pictures, "dog", 4, True, cache, lambda: told.append(1))
    assert len(told) == prior_steps(4)
    again = build_training_set(base, pictures[:1], "dog", 4, True, cache, lambda: told.append(1))
    assert len(told) == prior_steps(4)
    assert torch.equal(first.class_prior[0], again.class_prior[0])
    assert torch.equal(first.other_prior[0], again.other_prior[0])
    build_training_set(base, pictures, "cat", 4, True, cache, lambda: told.append(1))
    assert len(told) > prior_steps(4)


def test_another_base_has_prior_pictures_of_its_own(base: Base, pictures: list[Image.Image], tmp_path):
    first = build_training_set(base, pictures, "dog", 2, True, tmp_path)
    site = next(iter(base.sites.values()))
    site.module.weight.mul_(1.5)
    other = build_training_set(Base("other", base.pipeline), pictures, "dog", 2, True, tmp_path)
    assert not torch.equal(first.class_prior[0], other.class_prior[0])


@pytest.mark.parametrize("damage", ["torn", "empty", "foreign"])
def test_a_damaged_cache_is_painted_anew(base: Base, pictures: list[Image.Image], tmp_path, damage: str):
    first = build_training_set(base, pictures, "dog", 4, True, tmp_path)
    files = list(tmp_path.iterdir())
    whole = {file: file.read_bytes() for file in files}
    assert len(files) == 2
    for file in files:
        if damage == "foreign":
            save_file({"other": torch.zeros(1)}, file)
        else:
            file.write_bytes(whole[file][: 0 if damage == "empty" else -7])
    again = build_training_set(base, pictures, "dog", 4, True, tmp_path)
    assert torch.equal(first.class_prior[0], again.class_prior[0])
    assert torch.equal(first.other_prior[0], again.other_prior[0])
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == whole
