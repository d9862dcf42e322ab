import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file

from concepts.errors import LibraryError, StudioError
from studio.models.base_model import Base
from training.config.recipe import Recipe
from training.data.augmentation import Example
from training.data.class_images import class_prompts, other_prompts, prior_steps
from training.data.dataset import Sample, TrainingSet
from training.data.dataset import build_training_set as build


@pytest.fixture
def pictures() -> list[Image.Image]:
    """Two pictures that are not their own mirror images."""
    whole = [Image.new("RGB", (64, 64), colour) for colour in ("navy", "white")]
    for picture, colour in zip(whole, ("yellow", "black"), strict=True):
        picture.paste(colour, (0, 0, 20, 64))
    return whole


def build_training_set(base: Base, pictures: list, word: str, prior: int, cache=None, on_step=lambda: None, **options):
    examples = [picture if isinstance(picture, Example) else Example(picture) for picture in pictures]
    return build(base, examples, word, Recipe(num_class_images=prior, **options), cache, on_step)


def stacked(samples: list[Sample]) -> torch.Tensor:
    return torch.stack([sample.latents for sample in samples])


def same_priors(one: TrainingSet, other: TrainingSet) -> bool:
    return torch.equal(stacked(one.class_prior), stacked(other.class_prior)) and torch.equal(
        stacked(one.other_prior), stacked(other.other_prior)
    )


@pytest.mark.parametrize("count", [1, 2, 24, 100])
def test_prior_prompts_are_of_the_class_or_of_everything_else(count: int):
    of_class, others = class_prompts("dog", count), other_prompts("dog", count)
    assert len(of_class) == len(others) == count
    assert all("dog" in prompt for prompt in of_class)
    assert not any("dog" in prompt.split() for prompt in others)
    assert len(set(of_class)) >= min(count, 10)
    assert len(set(others)) >= min(count, 20)


def test_pictures_are_encoded_with_their_mirror_images(base: Base, pictures: list[Image.Image]):
    data = build_training_set(base, pictures, "dog", 2, random_flip=True)
    squares = [ImageOps.fit(picture, (base.side, base.side), Image.Resampling.LANCZOS) for picture in pictures]
    expected = base.encode_pictures([*squares, *map(ImageOps.mirror, squares)])
    assert torch.equal(stacked(data.concept), expected)
    assert not torch.allclose(expected[0], expected[2], atol=1e-3)
    plain = build_training_set(base, [picture.convert("RGBA") for picture in pictures], "dog", 2)
    torch.testing.assert_close(stacked(plain.concept), expected[:2])


def test_pictures_keep_their_shape_in_buckets_and_their_masks_follow(base: Base):
    wide, tall = Image.new("RGB", (80, 40), "red"), Image.new("RGB", (40, 80), "blue")
    mask = Image.new("L", wide.size)
    mask.paste(255, (0, 0, 40, 40))
    examples = [Example(wide, "a dog", mask), Example(tall)]
    data = build_training_set(base, examples, "dog", 2, buckets=5, masked_loss=True, random_flip=True)
    shapes = [tuple(sample.latents.shape[1:]) for sample in data.concept]
    assert shapes[:2] == shapes[2:]
    assert shapes[0] == shapes[1][::-1]
    assert shapes[0][0] < shapes[0][1]
    first, second, mirrored, _ = data.concept
    assert (first.caption, second.caption, second.mask) == ("a dog", None, None)
    assert first.mask is not None
    assert mirrored.mask is not None
    assert first.mask.shape == (1, *shapes[0])
    assert first.mask[0, :, 0].min() == 1
    assert first.mask[0, :, -1].max() == 0
    assert torch.equal(mirrored.mask, first.mask.flip(2))
    assert build_training_set(base, examples, "dog", 2, masked_loss=False).concept[0].mask is None


def test_random_crops_follow_from_the_seed(base: Base, pictures: list[Image.Image]):
    one, same, other = (
        stacked(build_training_set(base, pictures, "dog", 2, crops=2, seed=seed).concept) for seed in (1, 1, 2)
    )
    assert len(one) == 2 + 2 * 2
    assert torch.equal(one, same)
    assert torch.equal(one[:2], other[:2])
    assert not torch.equal(one[2:], other[2:])


def test_half_of_the_prior_pictures_are_of_the_class(base: Base, pictures: list[Image.Image]):
    data = build_training_set(base, pictures, "dog", 5)
    for samples, prompts in ((data.class_prior, class_prompts("dog", 2)), (data.other_prior, other_prompts("dog", 3))):
        assert [sample.caption for sample in samples] == prompts
        assert stacked(samples).shape[1:] == (4, 8, 8)
        assert stacked(samples).isfinite().all()
    assert not torch.equal(data.other_prior[0].latents, data.other_prior[1].latents)
    assert not same_priors(data, build_training_set(base, pictures, "dog", 5, prior_seed=1))


@pytest.mark.parametrize("count", [2, 5, 18])
def test_the_number_of_generation_steps_is_known_beforehand(base: Base, pictures: list[Image.Image], count: int):
    steps = []
    build_training_set(base, pictures, "dog", count, on_step=lambda: steps.append(1))
    assert len(steps) == prior_steps(base.family, count // 2, count - count // 2)


def test_prior_pictures_are_generated_once(base: Base, pictures: list[Image.Image], tmp_path):
    steps = []
    cache = tmp_path / "not" / "yet"
    first = build_training_set(base, pictures, "dog", 4, cache, lambda: steps.append(1))
    assert len(steps) == prior_steps(base.family, 2, 2)
    again = build_training_set(base, pictures[:1], "dog", 4, cache, lambda: steps.append(1))
    assert len(steps) == prior_steps(base.family, 2, 2)
    assert same_priors(first, again)
    build_training_set(base, pictures, "cat", 4, cache, lambda: steps.append(1))
    assert len(steps) > prior_steps(base.family, 2, 2)


def test_another_base_has_prior_pictures_of_its_own(base: Base, pictures: list[Image.Image], tmp_path):
    first = build_training_set(base, pictures, "dog", 2, tmp_path)
    site = next(iter(base.sites.values()))
    site.module.weight.mul_(1.5)
    other = build_training_set(Base("other", base.pipeline), pictures, "dog", 2, tmp_path)
    assert not same_priors(first, other)


@pytest.mark.parametrize("damage", ["torn", "empty", "foreign"])
def test_a_damaged_cache_is_generated_again(base: Base, pictures: list[Image.Image], tmp_path, damage: str):
    first = build_training_set(base, pictures, "dog", 4, tmp_path)
    files = list(tmp_path.iterdir())
    whole = {file: file.read_bytes() for file in files}
    assert len(files) == 2
    for file in files:
        if damage == "foreign":
            save_file({"other": torch.zeros(1)}, file)
        else:
            file.write_bytes(whole[file][: 0 if damage == "empty" else -7])
    again = build_training_set(base, pictures, "dog", 4, tmp_path)
    assert same_priors(first, again)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == whole


def test_repeats_say_how_often_a_picture_is_in_the_set(base: Base, pictures: list[Image.Image]):
    examples = [Example(pictures[0], "often", repeats=3), Example(pictures[1], "once")]
    data = build_training_set(base, examples, "dog", 2, random_flip=True)
    assert [sample.caption for sample in data.concept] == ["often"] * 3 + ["once"] + ["often"] * 3 + ["once"]


def test_class_images_of_a_folder_replace_the_generated_ones(base: Base, pictures: list[Image.Image], tmp_path):
    for index, picture in enumerate(pictures):
        picture.resize((80, 64)).convert("RGB").save(tmp_path / f"{index}.png")
    (tmp_path / "1.txt").write_text("a dog on the grass")
    steps = []
    data = build_training_set(base, pictures, "dog", 6, on_step=lambda: steps.append(1), class_data_dir=str(tmp_path))
    assert [sample.caption for sample in data.class_prior] == ["a photo of a dog", "a dog on the grass"]
    assert len(data.other_prior) == 3
    assert len(steps) == prior_steps(base.family, 3)
    for folder, message in ((tmp_path / "not there", "is no folder"), (tmp_path / "empty", "has no pictures")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises((StudioError, LibraryError), match=message):
            build_training_set(base, pictures, "dog", 2, class_data_dir=str(folder))


def test_a_styles_class_images_show_other_things(base: Base, pictures: list[Image.Image]):
    data = build_training_set(base, pictures, "style", 4)
    captions = [sample.caption for sample in (*data.class_prior, *data.other_prior)]
    assert len(captions) == 4
    assert not any("style" in (caption or "") for caption in captions)
