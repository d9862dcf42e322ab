from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import ViTConfig, ViTModel

from concepts import Library

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
"""A vision transformer of one layer."""


def test_dreambench(studio: Callable, library: Library, tiny_folder: Path, tmp_path: Path):
    ViTModel(ViTConfig(**SMALL)).save_pretrained(tmp_path / "dino")
    options = ["--library", library.root, "--base", tiny_folder]
    done = studio(
        "evaluate", "rex", "--benchmark", "dreambench", "--dino", tmp_path / "dino", "--num-inference-steps", 1,
        "--pictures", tmp_path / "pictures", "--json", *options,
    )  # fmt: skip
    assert done.status == 0, done.err
    found = done.document
    assert (found["kind"], len(found["prompts"]), found["backbones"]["dino"]) == ("live", 25, "dino")
    assert found["measures"] == ["image_alignment", "text_alignment", "DINO"]
    assert -1 <= found["mean"]["DINO"] <= 1
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 100
    for arguments in (["rex", "--benchmark", "other"], ["idle"], ["rex", "--dino", tmp_path]):
        assert studio("evaluate", *arguments, *options).status == 2
