from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from concepts.errors import StudioError
from studio.adapters.concept_file import to_bytes
from studio.models.generation_request import GenerationRequest
from studio.models.sampling_settings import SamplingSettings
from training.config.recipe import Recipe
from training.engine import validation
from ui.services.named_concepts import name_and_step, with_steps
from ui.services.scoring.comparison import compare
from ui.services.snapshots import keep_snapshot, steps_of, trained_result
from ui.services.workflow import Workflow


@pytest.fixture
def trained(workflow: Workflow, monkeypatch) -> Workflow:
    """The workflow, with idle trained for three steps and a snapshot after each."""
    monkeypatch.setattr(validation, "PREVIEW_SETTINGS", SamplingSettings(num_inference_steps=1))
    recipe = Recipe(
        rank=4, steps=3, batch_size=2, num_class_images=2, save_every_n_steps=1, num_validation_images=1,
        unet_lr=0.02, lr_scheduler="constant", lr_warmup_steps=0,
    )  # fmt: skip
    workflow.train("idle", recipe)
    return workflow


def request(prompt: str, **options: Any) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, num_inference_steps=2, **options)


def test_a_prompt_takes_a_snapshot(trained: Workflow):
    names = ("a <idle@1>", "a <idle@2>", "a <idle>", "a <IDLE@3>")
    pictures = [trained.generate(request(prompt))[0].tobytes() for prompt in names]
    assert len(set(pictures)) == 3
    assert pictures[2] == pictures[3], "the last step's is the result"
    assert trained.generate(request("a <idle@1:0.5>"))[0].tobytes() not in pictures
    assert trained.generate(request("a <idle@1> and <Milo>"))[0].tobytes() not in pictures
    both = request("a photo", concepts=("idle@1",))
    assert trained.generate(both) != trained.generate(request("a photo", concepts=("idle@2",)))
    assert trained.plain("a photo of <idle@1>") == "a photo of a robot"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a <idle@7>", "no snapshot after step 7; it has 1, 2, 3"),
        ("a <idle@1> and <idle>", "two steps"),
        ("a <idle@1> and <idle@2>", "two steps"),
        ("a <rex@1>", "no snapshot after step 1; it has 0"),
        ("a <lost@1>", 'no concept "lost"'),
    ],
)
def test_what_is_no_snapshot_is_refused(trained: Workflow, prompt: str, words: str):
    with pytest.raises(StudioError, match=words):
        trained.generate(request(prompt))


@pytest.mark.parametrize("prompt", ["a <idle@>", "a <idle@last>", "a <@3>", "a <idle@1@2>"])
def test_what_is_no_step_is_refused(prompt: str):
    with pytest.raises(ValidationError, match="names no concept"):
        request(prompt)


def test_names_and_steps_are_told_apart():
    assert name_and_step("rex@80") == ("rex", 80)
    assert name_and_step("rex") == ("rex", None)
    assert name_and_step("a@1.safetensors") == ("a@1.safetensors", None)
    read, steps = with_steps(request("<Rex@80> with <milo>", negative_prompt="<rex@80>", concepts=("tom@5",)))
    assert (read.prompt, read.negative_prompt, read.concepts) == ("<Rex> with <milo>", "<rex>", ("tom",))
    assert steps == {"rex": 80, "tom": 5}


def test_a_snapshot_is_kept_as_the_result_and_the_result_as_a_snapshot(trained: Workflow):
    library = trained.library
    files = [to_bytes(trained.trained(f"idle@{step}")) for step in (1, 2, 3)]
    pictures = [trained.generate(request(f"a <idle@{step}>"))[0].tobytes() for step in (1, 2, 3)]
    scores = {kept["step"]: kept["image_alignment"] for kept in trained_result(library.concept("idle")).snapshots}
    keep_snapshot(library, "idle", 1)
    result = trained_result(library.concept("idle"))
    assert steps_of(library.concept("idle")) == [1, 2, 3]
    assert result.scores["image_alignment"] == scores[1]
    assert result.details["total_steps"] == 1
    assert result.preview
    assert to_bytes(trained.trained("idle")) == files[0]
    assert [to_bytes(trained.trained(f"idle@{step}")) for step in (1, 2, 3)] == files
    assert trained.generate(request("a <idle>"))[0].tobytes() == pictures[0]
    keep_snapshot(library, "idle", 3)
    assert trained.generate(request("a <idle>"))[0].tobytes() == pictures[2]
    with pytest.raises(StudioError, match="that of step 3 already"):
        keep_snapshot(library, "idle", 3)


def test_the_axis_step_compares_snapshots(trained: Workflow):
    *_, grid = compare(trained, request("a <idle> and <idle>", num_images=1), ("step", "1, 3"), ("none", ""))
    assert list(grid.columns) == ["1", "3"]
    assert [cell.prompt for cell in grid.cells] == ["a <idle@1> and <idle@1>", "a <idle@3> and <idle@3>"]
    assert (
        grid.cells[0].picture.tobytes()
        == trained.generate(request("a <idle@1> and <idle@1>", num_images=1))[0].tobytes()
    )


def test_the_command_line_lists_and_keeps_snapshots(studio: Callable, trained: Workflow):
    options = ["--library", trained.library.root, "--json"]
    shown = studio("concept", "show", "idle", *options).document["training"]
    assert [kept["step"] for kept in shown["snapshots"]] == [1, 2]
    assert studio("concept", "keep", "idle@2", *options).status == 0
    shown = studio("concept", "show", "idle", *options).document["training"]
    assert sorted(kept["step"] for kept in shown["snapshots"]) == [1, 3]
    for name in ("idle", "idle@9"):
        assert studio("concept", "keep", name, *options).status == 2
