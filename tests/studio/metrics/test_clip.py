import shutil

import pytest
import torch
from PIL import Image

from concepts.errors import StudioError
from concepts.samples import SAMPLES
from studio.bundled import TOYBOX_CLIP
from studio.metrics.clip import Scorer, load_scorer


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load_scorer()


@pytest.fixture(scope="module")
def cats() -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in SAMPLES["milo"].pictures[:3]]


@pytest.fixture(scope="module")
def vases() -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in SAMPLES["rosa"].pictures[:2]]


def test_embeddings_are_unit_vectors(scorer: Scorer, cats: list[Image.Image]):
    pictures, texts = scorer.embed_pictures(cats), scorer.embed_texts(["a cat", "a dog on the beach", ""])
    assert pictures.shape == texts.shape
    for rows in (pictures, texts):
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
        assert not torch.allclose(rows[0], rows[1], atol=1e-3)


def test_any_number_of_pictures_of_any_size_is_embedded(scorer: Scorer, cats: list[Image.Image]):
    many = [cats[0].resize((16, 16))] * 64 + [cats[1].resize((40, 20))]
    embedded = scorer.embed_pictures(many)
    assert len(embedded) == 65
    torch.testing.assert_close(embedded[64:], scorer.embed_pictures(many[64:]), rtol=1e-3, atol=1e-4)


def test_image_alignment_is_the_mean_cosine_to_all_references(
    scorer: Scorer, cats: list[Image.Image], vases: list[Image.Image]
):
    torch.testing.assert_close(scorer.image_alignment(cats[:1], cats[:1]), torch.ones(1))
    alignment = scorer.image_alignment(cats, vases)
    pairs = torch.stack([scorer.image_alignment(cats, [vase]) for vase in vases])
    torch.testing.assert_close(alignment, pairs.mean(0))
    assert alignment.shape == (3,)
    assert (alignment < 1).all()


def test_text_alignment_is_the_cosine_to_the_prompt(scorer: Scorer, cats: list[Image.Image]):
    alignment = scorer.text_alignment(cats, "a cat")
    torch.testing.assert_close(alignment, scorer.embed_pictures(cats) @ scorer.embed_texts(["a cat"])[0])
    assert not torch.equal(alignment, scorer.text_alignment(cats, "a blue vase"))


def test_the_nearest_references_are_those_of_highest_mean_cosine(
    scorer: Scorer, cats: list[Image.Image], vases: list[Image.Image]
):
    references = {"one": cats[:1], "other": cats[1:2], "vase": vases[:1]}
    assert scorer.nearest([cats[1], vases[0], cats[0]], references) == ["other", "vase", "one"]


def test_a_folder_of_open_clip_is_a_scorer_of_its_own_name(scorer: Scorer, cats: list[Image.Image], tmp_path):
    shutil.copytree(TOYBOX_CLIP, tmp_path / "mine")
    mine = load_scorer(str(tmp_path / "mine"))
    assert (scorer.backbone, mine.backbone) == ("toybox-clip", "mine")
    assert torch.equal(mine.text_alignment(cats, "a cat"), scorer.text_alignment(cats, "a cat"))


@pytest.mark.parametrize("damage", ["empty", "no configuration", "no weights", "torn"])
def test_a_folder_without_a_model_is_refused(damage: str, tmp_path):
    folder = tmp_path / "mine"
    if damage == "empty":
        folder.mkdir()
    else:
        shutil.copytree(TOYBOX_CLIP, folder)
    weights = folder / "open_clip_model.safetensors"
    if damage == "no configuration":
        (folder / "open_clip_config.json").unlink()
    elif damage == "no weights":
        weights.unlink()
    elif damage == "torn":
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(StudioError, match=r"mine.* could not be loaded as a CLIP model. Give --backbone toybox-clip"):
        load_scorer(str(folder))


@pytest.mark.parametrize("source", ["nothing", "nothing/of/the/kind", "RN50/nothing", "RN50", "", "/nowhere"])
def test_an_unknown_model_is_refused(source: str):
    with pytest.raises(StudioError, match="could not be loaded"):
        load_scorer(source)
