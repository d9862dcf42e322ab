"""What the commands refuse: with one sentence, and the library as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from concepts import Library

NOT_A_PICTURE = b"GIF89a but no more than that"


@pytest.fixture
def refused(studio, library: Library, state, tiny_folder):
    """Asserts that a command ends with exit status 2 and one sentence, and leaves the library as it was."""

    def check(*arguments: Any) -> str:
        before = state(library)
        based = [] if arguments[0] in ("concept", "score") else ["--base", tiny_folder]
        outcome = studio(*arguments, "--library", library.root, *based)
        assert outcome.status == 2, outcome.err
        assert outcome.out == ""
        last = outcome.err.strip().splitlines()[-1]
        assert last.startswith("Error: ")
        assert last.endswith((".", "?"))
        assert "Traceback" not in outcome.err
        assert outcome.err.count("Error") == 1
        assert state(library) == before
        return last

    return check


def test_a_picture_that_is_no_picture_is_refused(refused, pictures: Path):
    (pictures / "zzz.gif").write_bytes(NOT_A_PICTURE)
    assert "zzz.gif" in refused("concept", "add", "bruno", pictures, "--class", "dog")
    (pictures / "zzz.gif").unlink()
    (pictures / "[red]torn[].png").write_bytes((pictures / "0.png").read_bytes()[:-30])
    assert "[red]torn[].png is damaged" in refused("concept", "add", "bruno", pictures, "--class", "dog")
    assert "nowhere" in refused("concept", "add", "bruno", pictures / "nowhere", "--class", "dog")


def test_what_a_folder_holds_and_is_not_taken_is_told(studio, library: Library, pictures: Path):
    (pictures / "Thumbs.db").touch()
    outcome = studio("concept", "add", "bruno", pictures, "--class", "dog", "--library", library.root)
    assert outcome.status == 0, outcome.err
    assert outcome.err == "Note: Not taken: Thumbs.db (no picture by its ending).\n"


def test_a_name_used_twice_is_refused(refused, pictures: Path):
    assert 'A concept "rex" already exists' in refused("concept", "add", "REX", pictures, "--class", "dog")


@pytest.mark.parametrize(("name", "word"), [("two words", "dog"), ("../rex", "dog"), ("bruno", "<dog>"), ("", "dog")])
def test_a_name_or_class_that_cannot_stand_in_a_prompt_is_refused(refused, pictures: Path, name: str, word: str):
    refused("concept", "add", name, pictures, "--class", word)


@pytest.mark.parametrize("command", [["train", "Rox"], ["concept", "show", "Rox"], ["concept", "remove", "Rox"]])
def test_an_unknown_concept_is_refused_with_the_nearest_name(refused, command: list[str]):
    assert 'There is no concept "Rox". Did you mean "rex"?' in refused(*command)


def test_a_missing_concept_in_a_prompt_is_refused(refused, tmp_path):
    out = tmp_path / "out"
    assert 'no concept "nobody"' in refused("generate", "a <rex> and a <nobody>", "-o", out)
    assert '"idle" is not trained yet. Run studio train idle' in refused("generate", "an <idle>", "-o", out)
    assert not out.exists()


@pytest.mark.parametrize("rank", [-1, 0, 33, 10**6])
@pytest.mark.parametrize("adapter", ["spectral_additive", "lora"])
def test_a_rank_outside_the_range_is_refused(refused, rank: int, adapter: str):
    said = refused("train", "rex", "--rank", rank, "--adapter", adapter)
    assert "rank" in said
    assert "1" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--adapter", "magic"], "no adapter 'magic'. Choose from lora"),
        (["--steps", 0], "steps"),
        (["--seed", -1], "seed"),
        (["--seed", 2**64], "seed"),
        (["--set", "batch_size"], "--set 'batch_size' is invalid. Give NAME=VALUE"),
        (["--set", "=3"], "--set"),
        (["--set", "batch_size=many"], "batch"),
        (["--set", "steps=1.5"], "steps"),
        (["--set", "colour=red"], "spectral_additive has no option colour. It has the options"),
        (["--set", "options=3"], "options"),
        (["--set", "train_scale=perhaps"], "train_scale"),
        (["--adapter", "lora", "--set", "alpha=much"], "alpha"),
        (["--set", "first_column=1"], "first_column"),
    ],
)
def test_a_training_that_cannot_be_is_refused(refused, arguments: list[Any], said: str):
    assert said in refused("train", "idle", *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--strength", "rex"], "--strength"),
        (["--strength", "rex=much"], "--strength"),
        (["--strength", "rex=nan"], "--strength"),
        (["--strength", "rex=inf"], "--strength"),
        (["--strength", "Milo=1"], "Milo has a strength"),
        (["--region", "rex"], "--region"),
        (["--region", "rex:0,0,1"], "--region"),
        (["--region", "rex:a,b,c,d"], "--region"),
        (["--region", "rex:1,0,0,1"], "top,left,bottom,right"),
        (["--region", "nobody:0,0,1,0.5"], 'no concept "nobody"'),
        (["--method", "magic"], "no merge method 'magic'. Choose from spectral, fedavg"),
        (["--concept", "lora", "--method", "spectral"], "fedavg"),
        (["--concept", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--num-inference-steps", 0], "num_inference_steps must be at least 1, not 0"),
        (["--seed", -1], "seed must be at least 0"),
        (["--seed", 2**64], "seed must be at most 18446744073709551615"),
        (["--seed", 2**64 - 1, "--num-images", 2], "Choose one from 0 to 2^64 - 1"),
        (["--guidance-scale", 1e9], "guidance_scale must be at most 100"),
        (["--guidance-scale", -1], "guidance_scale must be at least 0"),
        (["--guidance-scale", "nan"], "guidance_scale must be"),
        (["--size", "large"], "WIDTHxHEIGHT"),
        (["--size", "16x0"], "multiples of 8"),
        (["--size", "18x16"], "multiples of 8"),
        (["--size", "16x8192"], "multiples of 8"),
    ],
)
def test_a_picture_that_cannot_be_generated_is_refused(refused, tmp_path, arguments: list[Any], said: str):
    out = tmp_path / "out"
    assert said in refused("generate", "a <rex>", "-o", out, *arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("peft", None, "is a folder, not a concept. If PEFT wrote it, add it to the library first: studio import"),
        ("page.safetensors", b"\n<!DOCTYPE html><html>", "is a web page, not weights"),
        ("pickle.safetensors", b"PK\x03\x04" + bytes(80), "is a pickle file, which can run any code"),
        ("unet.safetensors", save({"down_blocks.0.x.weight": torch.ones(1)}), "is a UNet, a part of a base, not a co"),
        ("all.safetensors", save({"model.diffusion_model.x": torch.ones(1)}), "is a checkpoint, not the file of a co"),
        ("rex.SAFETENSORS", save({"x.lora_up.weight": torch.ones(1)}), "is a LoRA of another tool"),
        ("rex.pt", b"PK\x03\x04", "is not a .safetensors file. Give the name of a concept"),
        (
            "nowhere.safetensors",
            None,
            "cannot be read. Give a file that is there: a result in the library, or what studio m",
        ),
    ],
)
def test_a_path_that_is_no_concepts_file_is_told_as_what_it_is(
    refused, tmp_path, name: str, content: bytes | None, said: str
):
    place = tmp_path / name
    if content is not None:
        place.write_bytes(content)
    elif not place.suffix:
        place.mkdir()
    assert said in refused("generate", "a dog", "--concept", place, "-o", tmp_path / "out")
    assert said in refused("train", "idle", "--continue-from", place)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rex", "nobody"], 'no concept "nobody"'),
        (["rex", "idle"], '"idle" is not trained yet'),
        (["rex", "REX"], "Merge each concept once"),
        (["rex", "rex"], "Merge each concept once"),
        (["rex", "lora", "--method", "spectral"], "fedavg"),
        (["rex", "Milo", "--method", "magic"], "no merge method 'magic'"),
        (["rex", "--strength", "Milo=1"], "Milo"),
    ],
)
def test_a_merge_that_cannot_be_is_refused(refused, tmp_path, arguments: list[str], said: str):
    file = tmp_path / "both.safetensors"
    assert said in refused("merge", *arguments, "-o", file)
    assert not file.exists()
    assert "does not exist. Create it" in refused(
        "merge", "rex", "Milo", "-o", tmp_path / "nowhere" / "both.safetensors"
    )
    assert "does not end in .safetensors" in refused("merge", "rex", "Milo", "-o", tmp_path / "both.pt")


def test_a_score_that_cannot_be_is_refused(refused, pictures: Path, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no pictures" in refused("score", tmp_path / "empty", "--prompt", "a dog")
    assert "nowhere.png" in refused("score", tmp_path / "nowhere.png", "--prompt", "a dog")
    assert 'no concept "nobody"' in refused("score", pictures, "--prompt", "a <nobody>")
    assert "--backbone" in refused("score", pictures, "--prompt", "a dog", "--backbone", "magic")


def test_a_base_that_cannot_be_loaded_is_refused(studio, library: Library, state, tmp_path):
    before = state(library)
    outcome = studio("generate", "a <rex>", "--library", library.root, "--base", tmp_path / "nowhere")
    assert outcome.status == 2
    assert "Give --base toybox" in outcome.err
    assert state(library) == before


def test_a_library_that_is_none_is_refused(studio, tmp_path):
    (tmp_path / "studio.sqlite").write_text("not a database at all, but long enough to be read as one" * 20)
    outcome = studio("concept", "list", "--library", tmp_path)
    assert outcome.status == 2
    assert "cannot be used" in outcome.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps = 0", "steps must be at least 1"),
        ("stepps = 5", "Invalid stepps"),
        ("steps = ", "Give --recipe a TOML file"),
        (
            'optimizer = "prodigy"\nunet_lr = 1.0',
            "Invalid recipe: prodigy sets the learning rates itself",
        ),
    ],
)
def test_a_recipe_file_that_cannot_be_is_refused(refused, tmp_path, text: str, said: str):
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    assert said in refused("train", "idle", "--recipe", file)


def test_a_recipe_file_that_is_not_there_is_refused(refused, tmp_path):
    file = tmp_path / "nowhere.toml"
    assert f"The recipe {file} could not be read (No such file" in refused("train", "idle", "--recipe", file)
    file.write_text("rank = ")
    assert "Give --recipe a TOML file" in refused("train", "idle", "--recipe", file)
