import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from concepts import Library
from studio.adapters.concept_file import from_bytes
from training.config.recipe import Recipe
from training.engine.train_state import TrainState


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
    lines = studio("concept", "show", "milo", *at).out.splitlines()
    assert lines[:2] == ["name: Milo", "class: cat"]
    assert f"  {shown['pictures'][0]}" in lines
    assert "captions: none" in lines
    assert "  adapter: spectral_additive" in lines
    assert not any("{" in line or "[" in line for line in lines)
    assert studio("concept", "remove", "MILO", "--json", *at).document == {"removed": "Milo"}
    assert studio("concept", "restore", "milo", "--json", *at).document["name"] == "Milo"
    assert studio("concept", "remove", "MILO", "--for-good", "--json", *at).document == {"removed": "Milo"}
    assert "removed with --for-good cannot be restored" in studio("concept", "restore", "milo", *at).err
    plain = studio("concept", "list", *at)
    assert "rex" in plain.out
    assert "Milo" not in plain.out


def test_pictures_are_generated_into_files_that_remember_how(studio, library: Library, tiny_folder, tmp_path):
    out = tmp_path / "a folder with a rather long name so that its lines are longer than eighty characters" / "out"
    command = ["generate", "a <rex> on the beach", "--library", library.root, "--base", tiny_folder, "-o", out]
    quick = ["--num-inference-steps", 2, "--num-images", 2, "--seed", 7]
    document = studio(*command, *quick, "--json").document
    assert document["prompt"] == "a <rex> on the beach"
    assert len(set(document["pictures"])) == 2
    with Image.open(document["pictures"][1]) as picture:
        assert (picture.size, picture.format) == ((16, 16), "PNG")
        assert {
            "seed": "8",
            "prompt": "a <rex> on the beach",
            "num_inference_steps": "2",
        }.items() <= picture.info.items()
    wide = studio(*command, *quick, "--size", "32x16", "--region", "rex:0,16,16,32", "--json").document
    with Image.open(wide["pictures"][0]) as picture:
        assert (picture.size, picture.info["size"]) == ((32, 16), "[32, 16]")
    again = studio(*command, *quick)
    assert again.status == 0
    files = again.out.splitlines()
    assert not set(files) & set(document["pictures"])
    assert [Path(file).read_bytes() for file in files] == [Path(f).read_bytes() for f in document["pictures"]]


def test_a_merged_file_generates_what_its_concepts_generate(studio, library: Library, tiny_folder, tmp_path):
    at, file = ("--library", library.root, "--base", tiny_folder), tmp_path / "both.safetensors"
    document = studio("merge", "rex", "milo", "-o", file, "--strength", "REX=0.5", "--json", *at).document
    assert document["file"] == str(file)
    assert document["rank"] == 16
    assert {(each["concept"], each["other"]) for each in document["interference"]} == {("rex", "milo"), ("milo", "rex")}
    assert all(0 <= each["overlap"] <= 1 for each in document["interference"])
    merged = from_bytes(file.read_bytes(), "both")
    assert set(merged.tokens) == {"<rex>", "<Milo>"}
    quick = ["--num-inference-steps", 2, "--num-images", 1, "-o", tmp_path / "out", "--json"]
    prompt = "a <rex> and a <Milo>"
    one = studio("generate", prompt, "--strength", "rex=0.5", *quick, *at).document["pictures"][0]
    studio("concept", "remove", "rex", "--library", library.root)
    studio("concept", "remove", "Milo", "--library", library.root)
    other = studio("generate", prompt, "--concept", file, *quick, *at).document["pictures"][0]
    levels = [np.asarray(Image.open(picture), dtype=float) for picture in (one, other)]
    assert np.abs(levels[0] - levels[1]).mean() < 8
    assert studio("generate", "a <rex>", *quick, *at).status == 2


def test_help_comes_without_loading_a_model(tmp_path):
    code = (
        "import sys, ui.cli.main; assert not {'torch', 'diffusers', 'gradio'} & sys.modules.keys(); ui.cli.main.main()"
    )
    command = [sys.executable, "-c", code, "--help"]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=120)
    for verb in ("demo", "train", "merge", "generate", "score", "concept", "base"):
        assert verb in done.stdout


def test_ctrl_c_stops_a_training_which_then_goes_on(studio, library: Library, tiny_folder, monkeypatch):
    command = ["train", "idle", "--library", library.root, "--base", tiny_folder, "--json"]
    options = ["--steps", 6, "--rank", 4, "--set", "batch_size=4", "--set", "num_class_images=2"]
    optimizer_step, signals = TrainState.optimizer_step, [signal.SIGINT]

    def interrupted(self: TrainState, losses: Any) -> None:
        optimizer_step(self, losses)
        if self.step == 3 and signals:
            os.kill(os.getpid(), signals.pop())

    monkeypatch.setattr(TrainState, "optimizer_step", interrupted)
    stopped = studio(*command, *options)
    assert (stopped.status, stopped.out) == (130, "")
    assert "The training of idle stopped after step 3 of 6. Run the same command to resume it." in stopped.err
    again = studio(*command, *options)
    assert again.status == 0
    assert "Resuming the interrupted training after step 3 of 6" in again.err
    resumed = Path(again.document["trained"]["file"]).read_bytes()
    whole = studio(*command, *options)
    assert "Resuming" not in whole.err
    assert Path(whole.document["trained"]["file"]).read_bytes() == resumed


def test_a_training_goes_on_from_a_file(studio, library: Library, tiny_folder, tmp_path):
    at = ("--library", library.root, "--base", tiny_folder)
    quick = ("--steps", 1, "--set", "batch_size=2", "--set", "num_class_images=2")
    trained = studio("train", "idle", *at, *quick, "--json", "--rank", 4).document
    file = tmp_path / "earlier.safetensors"
    file.write_bytes(Path(trained["trained"]["file"]).read_bytes())
    further = studio("train", "idle", *at, *quick, "--json", "--continue-from", file)
    assert further.status == 0, further.err
    shown = studio("concept", "show", "idle", "--library", library.root, "--json").document["training"]
    assert (shown["steps"], shown["total_steps"]) == (1, 2)
    assert "Give a file" in studio("train", "idle", *at, "--continue-from", tmp_path / "nowhere.safetensors").err


def test_a_recipe_is_a_file_to_print_change_and_train_with(studio, library: Library, tiny_folder, tmp_path):
    at = ("--library", library.root, "--base", tiny_folder, "--json")
    printed = studio("recipe")
    assert printed.status == 0
    options = tomllib.loads(printed.out)
    assert options == Recipe().model_dump(mode="json", exclude_none=True)
    file = tmp_path / "quick.toml"
    file.write_text(
        'adapter = "lora"\nrank = 4\nsteps = 2\nbatch_size = 4\nnum_class_images = 2\n'
        'target_modules = ["feed_forward"]\n'
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
