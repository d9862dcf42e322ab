from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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


@pytest.mark.parametrize("regions", ["auto", "boxes", "none"])
def test_several_concepts_together(studio: Callable, library: Library, tiny_folder: Path, tmp_path: Path, regions: str):
    options = ["--library", library.root, "--base", tiny_folder, "--num-inference-steps", 2, "--regions", regions]
    pictures = tmp_path / "pictures"
    done = studio("evaluate", "rex", "Milo", "--benchmark", "multi", "--pictures", pictures, "--json", *options)
    assert done.status == 0, done.err
    found = done.document
    assert (found["concepts"], len(found["prompts"])) == (["rex", "Milo"], 5)
    assert list(found["judges"]) == ["toybox-clip", "toybox-clip, identity"]
    for judge, judged in found["judges"].items():
        for name, row in judged["confusion"].items():
            assert list(row) == ["rex", "Milo", "nobody"]
            assert sum(row.values()) == pytest.approx(1), name
        assert judged["collapse_rate"] == pytest.approx(
            1 - (judged["confusion"]["rex"]["rex"] + judged["confusion"]["Milo"]["Milo"]) / 2
        )
        rates = [row["collapse_rate"][judge] for row in found["prompts"]]
        assert judged["collapse_rate"] == pytest.approx(sum(rates) / len(rates))
    assert len(list(pictures.glob("*.png"))) == 20
    assert len(list(pictures.glob("masks/*.png"))) == (0 if regions == "boxes" else 40)


def test_dino_adds_the_published_thresholds(studio: Callable, library: Library, tiny_folder: Path, tmp_path: Path):
    ViTModel(ViTConfig(**SMALL)).save_pretrained(tmp_path / "dino")
    done = studio(
        "evaluate", "rex", "Milo", "--benchmark", "multi", "--dino", tmp_path / "dino", "--num-inference-steps", 1,
        "--json", "--library", library.root, "--base", tiny_folder,
    )  # fmt: skip
    assert done.status == 0, done.err
    judged = done.document["judges"]["dino"]
    rates = [judged["collapse_rate"], *(judged[f"SCR@{threshold}"] for threshold in ("0.4", "0.5", "0.6"))]
    assert rates == sorted(rates)


def test_evaluations_that_need_other_names_are_refused(studio: Callable, library: Library, tiny_folder: Path):
    options = ["--library", library.root, "--base", tiny_folder]
    for arguments, words in (
        (["rex", "--benchmark", "multi"], "several concepts"),
        (["rex", "REX", "--benchmark", "multi"], "several concepts"),
        (["rex", "Milo"], "one concept"),
        (["rex", "idle", "--benchmark", "multi"], "idle"),
    ):
        done = studio("evaluate", *arguments, *options)
        assert done.status == 2
        assert words in done.err
