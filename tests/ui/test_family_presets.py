"""A base of Stable Diffusion 1.x: every way to train and generate takes its family's preset."""

import asyncio
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from concepts import Library
from studio.metrics.clip import load_scorer
from studio.models import families
from studio.models.families import SD15, licence_note
from studio.models.generation_request import GenerationRequest
from training.config.family_presets import RECIPES
from training.config.recipe import Recipe
from training.jobs.batch import submit
from training.jobs.library_training import Trained
from training.jobs.manifest import Manifest, runs_of
from training.jobs.train_with_columns import train
from ui.services import generation
from ui.services.import_export import export_concepts
from ui.services.workflow import Workflow
from ui.web.api import Endpoints
from ui.web.server import build
from ui.web.tabs.train import preset_values
from ui.web.worker_supervisor import WorkerSupervisor

OWN = {"steps": 800, "batch_size": 2, "num_class_images": 200, "lr_scheduler": "constant", "buckets": 5}
QUICK: dict[str, Any] = {"steps": 1, "num_class_images": 2, "adapter": "lora", "rank": 2}


@pytest.fixture(autouse=True)
def _as_sd15(monkeypatch):
    """The tiny base counts as Stable Diffusion 1.x: its context has 32 features."""
    monkeypatch.setattr(families, "_BY_WIDTH", {32: SD15})


@pytest.fixture
def library(tmp_path: Path) -> Library:
    picture = tmp_path / "0.png"
    Image.new("RGB", (64, 64), "navy").save(picture)
    opened = Library(tmp_path / "library")
    opened.add_concept("rex", "dog", [picture])
    return opened


@pytest.fixture
def workflow(library: Library, tiny_folder: Path) -> Workflow:
    return Workflow(library.root, str(tiny_folder))


def settings_in(file: str) -> dict[Any, Any]:
    """The settings that an image keeps."""
    with Image.open(file) as image:
        return image.info


def chosen(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in OWN}


def test_the_command_prints_the_preset(studio: Callable, tiny_folder: Path):
    printed = studio("recipe", "--base", tiny_folder).out
    read = tomllib.loads(printed)
    assert chosen(read) == OWN
    assert printed.startswith("# The preset of Stable Diffusion 1.x.")
    assert "# unet_lr = 0.0001\n" in printed
    assert "# token_lr = 0.001\n" in printed
    assert Recipe(**{key: value for key, value in read.items() if value != "auto"}).steps == 800
    toybox = studio("recipe").out
    assert tomllib.loads(toybox)["steps"] == Recipe().steps
    assert "# token_lr = 0.005\n" in toybox


def test_a_queued_training_has_the_preset(workflow: Workflow):
    (job,) = workflow.queue(["rex"], Recipe(adapter="lora", steps=7))
    assert chosen(job.recipe) == {**OWN, "steps": 7}


def test_a_batch_has_the_preset(workflow: Workflow, tmp_path: Path):
    (tmp_path / "milo").mkdir()
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "milo/0.png")
    manifest = Manifest.model_validate(
        {"recipe": {"adapter": "lora"}, "concepts": [{"pictures": "milo", "class": "cat"}]}
    )
    (job,) = submit(workflow.library, workflow.base, manifest, runs_of(manifest, tmp_path), "label")
    assert chosen(job.recipe) == OWN


def test_the_api_has_the_preset(workflow: Workflow, monkeypatch):
    monkeypatch.setattr(WorkerSupervisor, "ensure_running", lambda _: None)
    endpoints = Endpoints(workflow, WorkerSupervisor(workflow.library))
    job = endpoints.train("rex", {"adapter": "lora"})
    assert job["steps"] == 800
    (file,) = endpoints.generate("a cat", {"num_inference_steps": 1, "num_images": 1})
    text = settings_in(file["path"])
    assert (text["guidance_scale"], text["guidance_rescale"], text["batch_size"]) == ("7.5", "0.0", "1")


def trained(workflow: Workflow) -> Trained:
    return train(workflow.library, workflow.base, "rex", Recipe(**QUICK), lambda: load_scorer("toybox-clip"))


def test_training_from_python_has_the_preset(workflow: Workflow):
    result = trained(workflow).result
    assert chosen(result.details["recipe"]) == {**OWN, "steps": 1, "num_class_images": 2}


def test_training_needs_the_familys_scorer_before_it_begins(studio: Callable, library: Library, tiny_folder: Path):
    """The scorer is loaded first, so that one that cannot be loaded does not cost a training."""
    command = ("train", "rex", "--library", library.root, "--base", tiny_folder, "--steps", 10**6)
    ended = studio(*command, "--backbone", "nothing/here")
    assert ended.status == 2
    assert "'nothing/here' could not be loaded as a CLIP model. Give --backbone toybox-clip" in ended.err


def test_the_scorer_is_the_familys(workflow: Workflow, monkeypatch):
    asked = []
    monkeypatch.setattr("ui.services.workflow.load_scorer", lambda source: asked.append(source) or source)
    assert workflow.scorer == "ViT-B-32/openai"
    monkeypatch.setenv("STUDIO_BACKBONE", "toybox-clip")
    assert Workflow(workflow.library.root, workflow._base).scorer == "toybox-clip"
    assert Workflow(workflow.library.root, workflow._base, "folder").scorer == "folder"


def test_generating_has_the_familys_settings(studio: Callable, tiny_folder: Path, tmp_path: Path):
    command = ("generate", "a cat", "--base", tiny_folder, "--library", tmp_path / "l", "-o", tmp_path / "o", "--json")
    (file,) = studio(*command, "--num-images", 1, "--guidance-rescale", 0.25).document["pictures"]
    text = settings_in(file)
    found = {name: text[name] for name in ("num_inference_steps", "guidance_scale", "guidance_rescale", "batch_size")}
    assert found == {
        "num_inference_steps": "50", "guidance_scale": "7.5", "guidance_rescale": "0.25", "batch_size": "1",
    }  # fmt: skip


def test_images_generated_from_python_have_the_familys_settings(workflow: Workflow, monkeypatch):
    seen = []

    def sampled(_base: Any, _prompt: str, seeds: Sequence[int], request: GenerationRequest, *_: Any) -> list[None]:
        seen.append(request.guidance_scale)
        return [None for _ in seeds]

    monkeypatch.setattr(generation, "generate", sampled)
    workflow.generate(GenerationRequest(prompt="a cat", num_images=3))
    assert seen == [7.5] * 3  # one image a batch


def test_the_page_shows_the_familys_values(workflow: Workflow):
    async def built() -> gr.Blocks:
        return build(workflow)

    # In a loop of its own, which is closed in the end, and in a thread, since another loop may be running in this one
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(asyncio.run, built()).result()
    named = ((getattr(block, "elem_id", None), block) for block in page.blocks.values())
    blocks: dict[str, Any] = {name: block for name, block in named if name}
    shown = {name: getattr(block, "value", None) for name, block in blocks.items()}
    for name, value in RECIPES[SD15.title].items():
        expected = "\n".join(value) if isinstance(value, tuple) else value
        assert shown[f"train-{name}"] == expected, name
    assert shown["train-validation_steps"] == "400"
    for form in ("generate", "compare", "benchmark"):
        assert (shown[f"{form}-num_inference_steps"], shown[f"{form}-guidance_scale"]) == (50, 7.5)
    assert shown["generate-guidance_rescale"] == 0
    rates = [blocks[f"train-{name}"].placeholder for name in ("unet_lr", "text_encoder_lr", "token_lr")]
    assert rates == ["0.0001", "1e-05", "0.001"]
    assert preset_values(SD15, "quick")["steps"] == 400


def test_the_licence_is_told_on_export(workflow: Workflow, tmp_path: Path):
    trained(workflow)
    _, notes = export_concepts(workflow, ["rex"], "kohya", tmp_path / "rex.safetensors")
    assert licence_note(SD15) in notes
