"""The commands about methods: what they cost, budgets, going on, and what a concept changed."""

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from concepts import Library
from studio.adapters import ADAPTERS
from ui.services.parsing import number_from

QUICK = ["--steps", 2, "--set", "num_class_images=2", "--set", "batch_size=2"]


def test_every_method_is_listed_with_what_it_costs(studio):
    listed = json.loads(studio("adapters", "--architecture", "sd15", "--rank", 8, "--json").out)
    assert listed["architecture"] == "sd15"
    assert listed["adapters"].keys() == ADAPTERS.keys()
    rotational = listed["adapters"]["spectral_rotational"]
    assert (rotational["sites"], rotational["trained"], rotational["exact_rank"]) == (176, 9_856, 8)
    assert listed["adapters"]["dora"]["exact_rank"] is None
    refused = json.loads(studio("adapters", "--architecture", "sd15", "--rank", 7, "--json").out)["adapters"]
    assert "divides" in refused["oft"]["refused"]
    described = studio("adapters", "lora", "--architecture", "sd15")
    assert described.status == 0
    assert "W' = W + (alpha / r) B A" in described.out
    assert "Hu et al., 2021" in described.out
    unknown = studio("adapters", "lorra")
    assert unknown.status == 2
    assert "There is no adapter 'lorra'. Choose from lora" in unknown.err
    shown = studio("adapters", "--architecture", "toybox")
    assert shown.status == 0
    assert all(name[:6] in shown.out for name in ADAPTERS)


def test_a_budget_decides_the_size_and_a_training_goes_on(studio, library: Library, tiny_folder: Path, tmp_path: Path):
    common = ["--library", library.root, "--base", tiny_folder, "--json"]
    first = json.loads(
        studio("train", "idle", "--adapter", "spectral_rotational", "--max-parameters", "1k", *QUICK, *common).out
    )
    assert (first["trained"]["rank"], first["trained"]["parameters"]) == (5, 5 * 4 * 40)
    before = library.concept("idle").result
    assert before
    stored = before.path.read_bytes()
    again = json.loads(studio("train", "idle", "--continue", "--steps", 3, *common).out)
    assert len(again["losses"]) == 3
    assert again["columns"] == first["columns"]
    after = library.concept("idle").result
    assert after
    assert after.path.read_bytes() != stored
    picture = tmp_path / "map.png"
    shown = json.loads(studio("analyse", "idle", "-o", picture, *common).out)
    assert len(shown["layers"]) == 40
    rows = [layer["similarity"] for layer in shown["layers"].values()]
    assert all(0 <= value <= 1 for row in rows for value in row if value is not None)
    assert shown["rank"] <= 5
    assert shown["spectrum"] < 1e-4
    assert shown["base_parameters"] > 100 * shown["parameters"]
    discount = math.exp(-math.log10(shown["parameters"] / shown["base_parameters"] + 1))
    assert shown["pe_score"] == pytest.approx(after.scores["image_alignment"] * discount)
    assert Image.open(picture).height > 200
    assert shown["leak"]["backbone"] == "toybox-clip"
    assert all(shown["leak"][kind]["pixels"] > 0 for kind in ("class_word", "unrelated"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["idle", "--max-parameters", "20 k"], "Give one such as 20000, 20k or 1.5M"),
        (["idle", "--adapter", "lora", "--max-parameters", "20"], "is too small for lora"),
        (["idle", "--max-parameters", "20k", "--rank", "4"], "rank and max_parameters cannot both be set"),
        (["idle", "--adapter", "svdiff", "--rank", "4"], "svdiff has no option rank. It has no options"),
        (["idle", "--continue"], "not trained yet"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    studio, library: Library, state, tiny_folder: Path, arguments: list[str], said: str
):
    before = state(library)
    outcome = studio("train", *arguments, "--library", library.root, "--base", tiny_folder)
    assert outcome.status == 2
    assert said in outcome.err
    assert state(library) == before


def test_budgets_are_written_as_people_write_them():
    assert [number_from(text) for text in ("20000", "20k", "1.5M")] == [20_000, 20_000, 1_500_000]


def test_what_cannot_be_analysed_is_refused(studio, library: Library, tiny_folder: Path):
    common = ["--library", library.root, "--base", tiny_folder]
    studio("train", "idle", "--adapter", "lora", "--rank", 2, *QUICK, *common)
    outcome = studio("analyse", "idle", "--layer", "unet.nowhere", *common)
    assert outcome.status == 2
    assert "does not change the matrix unet.nowhere. Choose one of" in outcome.err
    outcome = studio("analyse", "idle", "idle", *common)
    assert outcome.status == 2
    assert "Only concepts of spectral_rotational make a chain" in outcome.err
