"""Captions and masks: the models' places are taken by small ones and by a stand-in for rembg."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    BlipTextConfig,
    BlipVisionConfig,
)


@pytest.fixture(scope="module")
def blip(tmp_path_factory) -> Path:
    """A BLIP of a few words with random weights."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "a", "cat", "dog", "red", "on", "grass"]
    folder = tmp_path_factory.mktemp("models") / "blip"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = BlipTextConfig(
        vocab_size=len(words), encoder_hidden_size=16, bos_token_id=5, pad_token_id=0, eos_token_id=3, sep_token_id=3,
        max_position_embeddings=80, **sizes,
    )  # fmt: skip
    vision = BlipVisionConfig(image_size=32, patch_size=16, **sizes)
    config = BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def test_captions_lie_beside_the_pictures(studio: Callable, pictures: Path, blip: Path):
    (pictures / "0.txt").write_text("my own words")
    done = studio("caption", pictures, "--with", blip, "--json")
    assert done.status == 0, done.err
    assert list(done.document) == [str(pictures / f"{index}.png") for index in (1, 2)]
    assert (pictures / "0.txt").read_text() == "my own words"
    assert (pictures / "1.txt").read_text().strip() == done.document[str(pictures / "1.png")]
    known = {"a", "cat", "dog", "red", "on", "grass", "[DEC]", "[ENC]"}
    assert set(done.document[str(pictures / "1.png")].split()) <= known
    again = studio("caption", pictures, "--with", blip, "--again", "--json")
    assert len(again.document) == 3


def test_masks_become_transparency(studio: Callable, pictures: Path, tmp_path: Path, monkeypatch):
    asked = []

    def remove(picture: Image.Image, session: str, only_mask: bool) -> Image.Image:
        asked.append((session, only_mask))
        found = Image.new("L", picture.size)
        found.paste(255, (0, 0, 20, 20))
        return found

    stand_in = SimpleNamespace(remove=remove, new_session=lambda name: f"session of {name}")
    monkeypatch.setitem(sys.modules, "rembg", stand_in)
    done = studio("mask", pictures, "-o", tmp_path / "cut", "--with", "rembg/isnet-general-use", "--json")
    assert done.status == 0, done.err
    assert asked == [("session of isnet-general-use", True)] * 3
    cut = Image.open(tmp_path / "cut" / "1.png")
    assert (cut.mode, cut.getpixel((5, 5))[3], cut.getpixel((60, 40))[3]) == ("RGBA", 255, 0)  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
    taken = studio("mask", pictures, "-o", tmp_path / "cut")
    assert (taken.status, "already exists" in taken.err) == (2, True)


def test_what_is_missing_is_said(studio: Callable, pictures: Path, tmp_path: Path, blip: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rembg", None)
    for arguments, said in (
        (["mask", pictures, "-o", tmp_path / "cut"], "uv sync --extra masks"),
        (["mask", pictures, "-o", tmp_path / "cut", "--with", blip], "can only write captions"),
        (["caption", pictures, "--with", tmp_path], "could not be loaded as a BLIP or Florence-2 model"),
    ):
        done = studio(*arguments)
        assert (done.status, said in done.err) == (2, True)
    assert not (tmp_path / "cut").exists()
