"""Textual inversions by the keys of every tool, on bases with one and with two text encoders."""

import re
from pathlib import Path

import pytest
import torch

from concepts.errors import StudioError
from studio.formats.textual_inversion import read_token
from studio.models.base_model import Base, load_base
from tests.studio.formats.foreign_files import FLAT, Tensors, kohya, random, write

VECTORS, OTHER = random(2, 32), random(2, 48, seed=1)
ONE: dict[str, tuple[Tensors, tuple[str, ...]]] = {
    "A1111": ({"emb_params": VECTORS}, ()),
    "A1111's older": ({"string_to_param.*": VECTORS}, ()),
    "diffusers": ({"<rex>": VECTORS}, ()),
    "diffusers, one vector": ({"<rex>": VECTORS[0]}, ()),
    "ComfyUI": ({"clip_l": VECTORS}, ()),
    "pivotal tuning": ({"text_encoders_0": VECTORS}, ()),
    "half": ({"emb_params": VECTORS.half()}, ()),
    "of two encoders": ({"clip_l": VECTORS, "clip_g": OTHER}, ("'clip_g' of .* is not used: this base has one text",)),
    "pivotal tuning of two": (
        {"text_encoders_0": VECTORS, "text_encoders_1": OTHER},
        ("'text_encoders_1' of .* not",),
    ),
    "with the step": ({"emb_params": VECTORS, "step": torch.tensor(100)}, ("'step' of .* is not used",)),
    "with the output's": ({"emb_params": VECTORS, "emb_params_out": VECTORS}, ("'emb_params_out' of .* is not used",)),
}
REFUSED: dict[str, tuple[Tensors, str]] = {
    "two tokens": (
        {"<s0>": VECTORS[0], "<s1>": VECTORS[1]},
        "has 2 tensors. Give a textual inversion",
    ),
    "one token by two names": ({"emb_params": VECTORS, "clip_l": VECTORS}, "has 2 tensors"),
    "another width": ({"emb_params": OTHER}, "vectors of width 48, and this base needs 32"),
    "the second encoder alone": ({"clip_g": OTHER}, "vectors of width no, and this base needs 32"),
    "a LoRA": (kohya(), "is a LoRA, not a textual inversion"),
    "a LoRA's half": ({f"{FLAT}.lora_up.weight": VECTORS}, "is a LoRA, not a textual inversion"),
    "NaN": ({"emb_params": torch.full((1, 32), float("nan"))}, "has NaN or infinite values"),
    "no vectors": ({"emb_params": torch.zeros(0, 32)}, "is empty"),
    "a number": ({"emb_params": torch.ones(())}, "has vectors of shape"),
    "by layer": ({"emb_params": torch.ones(2, 2, 32)}, "has vectors of shape"),
    "more than a prompt holds": ({"emb_params": random(601, 32)}, "has 601 vectors, more than a prompt's 600"),
    "nothing": ({}, "has 0 tensors"),
}


@pytest.mark.parametrize("case", ONE)
def test_one_text_encoder(base: Base, case: str, tmp_path: Path):
    tensors, notes = ONE[case]
    read = read_token(write(tmp_path, tensors), base.text_encoders)
    expected = VECTORS[:1] if case == "diffusers, one vector" else VECTORS.half() if case == "half" else VECTORS
    assert read.vectors.keys() == {"text_encoder"}
    assert torch.equal(read.vectors["text_encoder"], expected.float())
    assert len(read.notes) == len(notes)
    assert all(re.search(note, told) for note, told in zip(notes, read.notes, strict=True))


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(base: Base, case: str, tmp_path: Path):
    tensors, reason = REFUSED[case]
    with pytest.raises(StudioError, match=reason):
        read_token(write(tmp_path, tensors), base.text_encoders)


@pytest.mark.parametrize("keys", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_two_text_encoders(xl_folder: Path, keys: tuple[str, str], tmp_path: Path):
    base = load_base(str(xl_folder), device="cpu")
    path = write(tmp_path, dict(zip(keys, (VECTORS, OTHER), strict=True)))
    read = read_token(path, base.text_encoders)
    assert torch.equal(read.vectors["text_encoder"], VECTORS)
    assert torch.equal(read.vectors["text_encoder_2"], OTHER)
    assert read.notes == ()
    with pytest.raises(StudioError, match="vectors of width 32, and this base needs 32 and 48"):
        read_token(write(tmp_path, {keys[0]: VECTORS}), base.text_encoders)
