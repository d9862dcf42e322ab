import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from concepts import Library
from studio.checkpoint import from_bytes
from training.learner import Learner
from training.recipe import Recipe

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


def test_a_name_used_twice_is_refused(refused, pictures: Path):
    assert 'There is a concept "rex" already' in refused("concept", "add", "REX", pictures, "--class", "dog")


@pytest.mark.parametrize(("name", "word"), [("two words", "dog"), ("../rex", "dog"), ("bruno", "<dog>"), ("", "dog")])
def test_a_name_or_class_that_cannot_stand_in_a_prompt_is_refused(refused, pictures: Path, name: str, word: str):
    refused("concept", "add", name, pictures, "--class", word)


@pytest.mark.parametrize("command", [["train", "Rox"], ["concept", "show", "Rox"], ["concept", "remove", "Rox"]])
def test_an_unknown_concept_is_refused_with_the_nearest_name(refused, command: list[str]):
    assert 'There is no concept "Rox": did you mean "rex"?' in refused(*command)


def test_a_missing_concept_in_a_prompt_is_refused(refused, tmp_path):
    out = tmp_path / "out"
    assert 'no concept "nobody"' in refused("generate", "a <rex> and a <nobody>", "-o", out)
    assert '"idle" is not trained yet: run studio train idle' in refused("generate", "an <idle>", "-o", out)
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
        (["--adapter", "magic"], "no adapter called 'magic': choose from lora"),
        (["--steps", 0], "steps"),
        (["--seed", -1], "seed"),
        (["--seed", 2**64], "seed"),
        (["--set", "batch"], "Write --set as NAME=VALUE: 'batch' is not"),
        (["--set", "=3"], "--set"),
        (["--set", "batch=many"], "batch"),
        (["--set", "steps=1.5"], "steps"),
        (["--set", "colour=red"], "spectral_additive has the options"),
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
        (["--strength", "Milo=1"], "Name Milo in the prompt"),
        (["--region", "rex"], "--region"),
        (["--region", "rex:0,0,1"], "--region"),
        (["--region", "rex:a,b,c,d"], "--region"),
        (["--region", "rex:1,0,0,1"], "top,left,bottom,right"),
        (["--region", "nobody:0,0,1,0.5"], 'no concept "nobody"'),
        (["--method", "magic"], "no merge method called 'magic': choose from spectral, fedavg"),
        (["--concept", "lora", "--method", "spectral"], "fedavg"),
        (["--concept", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--steps", 0], "1 to 1000 steps"),
        (["--seed", -1], "seeds from 0"),
        (["--seed", 2**64], "seeds from 0"),
        (["--seed", 2**64 - 1, "--number", 2], "seeds from 0"),
        (["--guidance", 1e9], "guidance from 0 to 100"),
        (["--guidance", -1], "guidance from 0 to 100"),
        (["--guidance", "nan"], "guidance from 0 to 100"),
        (["--size", "large"], "WIDTHxHEIGHT"),
        (["--size", "16x0"], "multiples of 4"),
        (["--size", "18x16"], "multiples of 4"),
        (["--size", "16x8192"], "multiples of 4"),
    ],
)
def test_a_picture_that_cannot_be_painted_is_refused(refused, tmp_path, arguments: list[Any], said: str):
    out = tmp_path / "out"
    assert said in refused("generate", "a <rex>", "-o", out, *arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rex", "nobody"], 'no concept "nobody"'),
        (["rex", "idle"], '"idle" is not trained yet'),
        (["rex", "REX"], "Merge each concept once"),
        (["rex", "rex"], "Merge each concept once"),
        (["rex", "lora", "--method", "spectral"], "fedavg"),
        (["rex", "Milo", "--method", "magic"], "no merge method called 'magic'"),
        (["rex", "--strength", "Milo=1"], "Milo"),
    ],
)
def test_a_merge_that_cannot_be_is_refused(refused, tmp_path, arguments: list[str], said: str):
    file = tmp_path / "both.safetensors"
    assert said in refused("merge", *arguments, "-o", file)
    assert not file.exists()
    assert "Make the folder" in refused("merge", "rex", "Milo", "-o", tmp_path / "nowhere" / "both.safetensors")
    assert "with .safetensors at its end" in refused("merge", "rex", "Milo", "-o", tmp_path / "both.pt")


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


def test_concepts_are_listed_shown_and_removed(studio, library: Library):
    at = ("--library", library.root)
    listed = studio("concept", "list", "--json", *at).document
    assert [concept["name"] for concept in listed] == ["rex", "Milo", "lora", "idle"]
    page = studio("concept", "list", "--limit", 2, "--after", "REX", "--json", *at).document
    assert page == listed[1:3]
    assert studio("concept", "list", "--search", "mi", "--json", *at).document == [listed[1]]
    shown = studio("concept", "show", "milo", "--json", *at).document
    assert shown == listed[1]
    assert shown["class"] == "cat"
    assert len(shown["pictures"]) == 1
    assert shown["columns"][0]["first"] == 4
    assert shown["trained"]["adapter"] == "spectral_additive"
    assert listed[3]["trained"] is None
    assert studio("concept", "remove", "MILO", "--json", *at).document == {"removed": "Milo"}
    assert studio("concept", "restore", "milo", "--json", *at).document["name"] == "Milo"
    assert studio("concept", "remove", "MILO", "--for-good", "--json", *at).document == {"removed": "Milo"}
    assert "removed for good cannot come back" in studio("concept", "restore", "milo", *at).err
    plain = studio("concept", "list", *at)
    assert "rex" in plain.out
    assert "Milo" not in plain.out


def test_pictures_are_painted_into_files_that_remember_how(studio, library: Library, tiny_folder, tmp_path):
    out = tmp_path / "a folder with a rather long name so that its lines are longer than eighty characters" / "out"
    command = ["generate", "a <rex> on the beach", "--library", library.root, "--base", tiny_folder, "-o", out]
    quick = ["--steps", 2, "--number", 2, "--seed", 7]
    document = studio(*command, *quick, "--json").document
    assert document["prompt"] == "a <rex> on the beach"
    assert len(set(document["pictures"])) == 2
    with Image.open(document["pictures"][1]) as picture:
        assert (picture.size, picture.format) == ((16, 16), "PNG")
        assert {"seed": "8", "prompt": "a <rex> on the beach", "steps": "2"}.items() <= picture.info.items()
    wide = studio(*command, *quick, "--size", "32x16", "--region", "rex:0,16,16,32", "--json").document
    with Image.open(wide["pictures"][0]) as picture:
        assert (picture.size, picture.info["size"]) == ((32, 16), "[32, 16]")
    again = studio(*command, *quick)
    assert again.status == 0
    files = again.out.splitlines()
    assert not set(files) & set(document["pictures"])
    assert [Path(file).read_bytes() for file in files] == [Path(f).read_bytes() for f in document["pictures"]]


def test_a_merged_file_paints_what_its_concepts_paint(studio, library: Library, tiny_folder, tmp_path):
    at, file = ("--library", library.root, "--base", tiny_folder), tmp_path / "both.safetensors"
    document = studio("merge", "rex", "milo", "-o", file, "--strength", "REX=0.5", "--json", *at).document
    assert document["file"] == str(file)
    assert document["rank"] == 16
    merged = from_bytes(file.read_bytes(), "both")
    assert set(merged.tokens) == {"<rex>", "<Milo>"}
    quick = ["--steps", 2, "--number", 1, "-o", tmp_path / "out", "--json"]
    prompt = "a <rex> and a <Milo>"
    one = studio("generate", prompt, "--strength", "rex=0.5", *quick, *at).document["pictures"][0]
    studio("concept", "remove", "rex", "--library", library.root)
    studio("concept", "remove", "Milo", "--library", library.root)
    other = studio("generate", prompt, "--concept", file, *quick, *at).document["pictures"][0]
    levels = [np.asarray(Image.open(picture), dtype=float) for picture in (one, other)]
    assert np.abs(levels[0] - levels[1]).mean() < 8
    assert studio("generate", "a <rex>", *quick, *at).status == 2


def test_help_comes_without_loading_a_model(tmp_path):
    code = "import sys, ui.cli; assert not {'torch', 'diffusers', 'gradio'} & sys.modules.keys(); ui.cli.main()"
    command = [sys.executable, "-c", code, "--help"]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=120)
    for verb in ("demo", "train", "merge", "generate", "score", "concept", "base"):
        assert verb in done.stdout


def test_ctrl_c_stops_a_training_which_then_goes_on(studio, library: Library, tiny_folder, monkeypatch, quick_priors):
    command = ["train", "idle", "--library", library.root, "--base", tiny_folder, "--json"]
    options = ["--steps", 6, "--rank", 4, "--set", "batch=4", "--set", "prior_pictures=2"]
    descend, signals = Learner.descend, [signal.SIGINT]

    def interrupted(self: Learner, losses: Any) -> None:
        descend(self, losses)
        if self.step == 3 and signals:
            os.kill(os.getpid(), signals.pop())

    monkeypatch.setattr(Learner, "descend", interrupted)
    stopped = studio(*command, *options)
    assert (stopped.status, stopped.out) == (130, "")
    assert "idle is stopped after step 3 of 6; the same command goes on from there" in stopped.err
    again = studio(*command, *options)
    assert again.status == 0
    assert "going on after step 3 of 6" in again.err
    resumed = Path(again.document["trained"]["file"]).read_bytes()
    whole = studio(*command, *options)
    assert "going on" not in whole.err
    assert Path(whole.document["trained"]["file"]).read_bytes() == resumed


def test_a_training_goes_on_from_a_file(studio, library: Library, tiny_folder, tmp_path, quick_priors):
    at = ("--library", library.root, "--base", tiny_folder)
    quick = ("--steps", 1, "--set", "batch=2", "--set", "prior_pictures=2")
    trained = studio("train", "idle", *at, *quick, "--json", "--rank", 4).document
    file = tmp_path / "earlier.safetensors"
    file.write_bytes(Path(trained["trained"]["file"]).read_bytes())
    further = studio("train", "idle", *at, *quick, "--json", "--continue-from", file)
    assert further.status == 0, further.err
    assert "Give a file" in studio("train", "idle", *at, "--continue-from", tmp_path / "nowhere.safetensors").err


def test_a_recipe_is_a_file_to_print_change_and_train_with(
    studio, library: Library, tiny_folder, tmp_path, quick_priors
):
    at = ("--library", library.root, "--base", tiny_folder, "--json")
    printed = studio("recipe")
    assert printed.status == 0
    options = tomllib.loads(printed.out)
    assert options == Recipe().model_dump(mode="json", exclude_none=True)
    file = tmp_path / "quick.toml"
    file.write_text(
        'adapter = "lora"\nrank = 4\nsteps = 2\nbatch = 4\nprior_pictures = 2\nsites = ["feed_forward"]\n'
        "[options]\nalpha = 2.0\n"
    )
    trained = studio("train", "idle", "--recipe", file, "--steps", 1, *at).document
    assert (trained["trained"]["adapter"], len(trained["losses"])) == ("lora", 1)
    plots = tmp_path / "plots.png"
    shown = studio("concept", "show", "idle", "-o", plots, "--library", library.root, "--json").document["training"]
    assert {"steps": 1, "plots": str(plots), "alignments": []}.items() <= shown.items()
    assert shown["trained"] == trained["trained"]["parameters"] + 32
    with Image.open(plots) as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps = 0", "Change steps"),
        ("stepps = 5", "Change stepps"),
        ("steps = ", "Give --recipe a TOML file"),
        ('optimizer = "prodigy"\nunet_rate = 1.0', "Change the recipe: leave unet_rate, text_rate and token_rate out"),
    ],
)
def test_a_recipe_file_that_cannot_be_is_refused(refused, tmp_path, text: str, said: str):
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    assert said in refused("train", "idle", "--recipe", file)


def test_a_recipe_file_that_is_not_there_is_refused(refused, tmp_path):
    assert "Give --recipe a TOML file" in refused("train", "idle", "--recipe", tmp_path / "nowhere.toml")
