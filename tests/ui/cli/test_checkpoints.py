"""Broken checkpoints on the command line: a sentence, status 2, and nothing written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from studio.models.base_model import Base
from ui.services import generation


def test_a_nan_image_writes_nothing(studio: Callable, base: Base, tmp_path: Path, monkeypatch):
    with torch.no_grad():
        base.pipeline.vae.post_quant_conv.weight.fill_(float("nan"))
    monkeypatch.setattr(generation, "load_base", lambda *_: base)
    command = ("generate", "a cat", "--num-inference-steps", 1, "--library", tmp_path / "library")
    ended = studio(*command, "-o", tmp_path / "pictures")
    assert ended.status == 2
    assert "Error: The image of seed 0 is NaN, so it was not saved." in ended.err
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize("command", [("generate", "a cat"), ("adapters",), ("base", "evaluate")])
def test_every_command_refuses_a_broken_folder_with_its_reason(
    command: tuple[str, ...], studio: Callable, tiny_folder: Path, tmp_path: Path
):
    shutil.copytree(tiny_folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model/vae")
    library = () if command == ("adapters",) else ("--library", tmp_path / "library")
    ended = studio(*command, "--base", tmp_path / "model", *library)
    assert (ended.status, ended.err.strip().splitlines()[-1]) == (
        2, f"Error: {tmp_path / 'model'} has no folder vae. Get a complete copy."
    )  # fmt: skip


def test_no_library_writes_to_standard_error(studio: Callable, tiny_folder: Path, tmp_path: Path):
    """An unknown option of the UNet and a text encoder's of transformers 4: both libraries would tell of it."""
    shutil.copytree(tiny_folder, tmp_path / "model")
    for part in ("unet", "text_encoder"):
        file = tmp_path / "model" / part / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "unknown_option": 1}))
    command = ("generate", "a cat " * 100, "--num-inference-steps", 1, "--num-images", 1, "--json")
    ended = studio(*command, "--base", tmp_path / "model", "--library", tmp_path / "l", "-o", tmp_path / "o")
    assert ended.status == 0
    assert [line for line in ended.err.splitlines() if not line.strip().startswith("generating")] == []
