"""DreamBench's prompts and measures, and the backbones that see pictures alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

from concepts.errors import StudioError
from studio.metrics import dreambench
from studio.metrics.clip import load_scorer
from studio.metrics.dino import load_backbone

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
"""A vision transformer of one layer."""


@pytest.fixture
def pictures() -> list[Image.Image]:
    drawn = []
    for index, colour in enumerate(("navy", "orange", "teal")):
        picture = Image.new("RGB", (64, 48), colour)
        picture.paste("white", (0, 0, 10 + 15 * index, 30))
        drawn.append(picture)
    return drawn


@pytest.mark.parametrize("kind", ["object", "live"])
def test_there_are_25_prompts_of_a_kind(kind: dreambench.Kind):
    asked = dreambench.prompts("<rex>", kind)
    assert len(set(asked)) == 25
    assert asked[0] == "a <rex> in the jungle"
    assert asked[-1] == "a cube shaped <rex>"
    assert ("a <rex> wearing a santa hat" in asked) is (kind == "live")
    assert ("a <rex> floating in an ocean of milk" in asked) is (kind == "object")


def test_living_things_are_known():
    assert (dreambench.kind_of("Dog"), dreambench.kind_of("tea pot")) == ("live", "object")


@pytest.mark.parametrize("model", [ViTModel(ViTConfig(**SMALL)), None])
def test_a_transformers_folder(model: ViTModel | None, tmp_path: Path, pictures: list[Image.Image]):
    config = Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    model = model or Dinov2Model(config)  # pyright: ignore[reportAssignmentType]
    assert model is not None
    model.save_pretrained(tmp_path / "dino")
    backbone = load_backbone(str(tmp_path / "dino"))
    embedded = backbone.embed_pictures(pictures)
    side = model.config.image_size
    signal = torch.stack([backbone._prepare(picture) for picture in pictures])
    assert signal.shape == (3, 3, side, side)
    expected = model.eval()(signal).last_hidden_state[:, 0]
    assert torch.allclose(embedded, torch.nn.functional.normalize(expected, dim=-1), atol=1e-5)
    assert backbone.name == "dino"


def test_a_timm_folder(tmp_path: Path, pictures: list[Image.Image]):
    sizes: dict[str, Any] = {"embed_dim": 32, "depth": 1, "num_heads": 2, "img_size": 32, "patch_size": 8}
    model = timm.create_model("vit_small_patch16_224.dino", num_classes=0, **sizes)
    folder = tmp_path / "small"
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "vit_small_patch16_224.dino", "num_classes": 0, "model_args": sizes,
        "pretrained_cfg": {"input_size": [3, 32, 32], "num_classes": 0, "fixed_input_size": True},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    backbone = load_backbone(str(folder))
    signal = torch.stack([backbone._prepare(picture) for picture in pictures])
    expected = torch.nn.functional.normalize(model.eval()(signal), dim=-1)
    assert torch.allclose(backbone.embed_pictures(pictures), expected, atol=1e-5)


@pytest.mark.parametrize("source", ["timm/no_such_model", "."])
def test_other_backbones_are_refused(source: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudioError, match="could not be loaded"):
        load_backbone(source)


def test_measures_are_the_published_ones(tmp_path: Path, pictures: list[Image.Image]):
    ViTModel(ViTConfig(**SMALL)).save_pretrained(tmp_path / "dino")
    scorer, dino = load_scorer(), load_backbone(str(tmp_path / "dino"))
    asked: list[str] = []

    def generate(prompt: str) -> list[Image.Image]:
        asked.append(prompt)
        return pictures[:2] if len(asked) == 1 else pictures[1:]

    rows = list(dreambench.measure(generate, "<rex>", "dog", pictures, "live", scorer, dino))
    assert (len(rows), asked[3], rows[3].prompt) == (
        25, "a <rex> on a cobblestone street", "a dog on a cobblestone street",
    )  # fmt: skip
    one, real = scorer.embed_pictures(pictures[:2]), scorer.embed_pictures(pictures)
    pairs = [float(a @ b) for a in one for b in real]
    assert rows[0].image == pytest.approx(sum(pairs) / 6, abs=1e-5)
    words = scorer.embed_texts(["a dog in the jungle"])[0]
    assert rows[0].text == pytest.approx(float((one @ words).mean()), abs=1e-5)
    seen, known = dino.embed_pictures(pictures[:2]), dino.embed_pictures(pictures)
    assert rows[0].dino == pytest.approx(float((seen @ known.T).mean()), abs=1e-5)
    assert dreambench.mean(rows).image == pytest.approx(sum(row.image for row in rows) / 25)
    without = next(dreambench.measure(generate, "<rex>", "dog", pictures, "live", scorer))
    assert dreambench.mean([without]).dino is None
