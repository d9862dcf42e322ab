"""One way of the data: what page, API and command line build is the very object that the sampler receives; files are
read, and uploads decoded, once.
"""

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from concepts import Library
from concepts.errors import StudioError
from concepts.images import upload_checks
from studio.adapters import from_library
from studio.composition import loaded_concept
from studio.models import base_model
from studio.models.generation_request import ControlInput, GenerationRequest
from studio.models.regions import sampling
from studio.serving import serving
from ui.cli import generate as generate_command
from ui.services import generation, import_export
from ui.services.uploads import Uploads
from ui.services.workflow import Workflow
from ui.web import api
from ui.web.server import build
from ui.web.tabs import generation_form
from ui.web.tabs.generation_form import given, requests_of

QUICK: dict[str, Any] = {"num_images": 3, "num_inference_steps": 1, "batch_size": 1}
WHOLE: dict[str, Any] = {
    **QUICK, "seed": 5, "scheduler": "euler", "guidance_scale": 3.0, "guidance_rescale": 0.25, "method": "ties",
    "negative_prompt": "rain", "size": (32, 16), "density": 0.25, "average": True, "concepts": ("lora",),
    "strengths": {"rex": 0.5, "Milo": {"unet": 0.8, "text_encoder": 0.5}}, "regions": {"rex": (0, 0, 1, 0.5)},
}  # fmt: skip
PROMPT = "a <rex> and a <Milo>"


@pytest.fixture
def built(monkeypatch) -> list[GenerationRequest]:
    """Every request that is built."""
    requests: list[GenerationRequest] = []
    real = GenerationRequest.__init__

    def build(self: GenerationRequest, **values: Any) -> None:
        real(self, **values)
        requests.append(self)

    monkeypatch.setattr(GenerationRequest, "__init__", build)
    return requests


@pytest.fixture
def sampled(monkeypatch) -> list[Any]:
    """The settings that the sampler receives, once for each batch."""
    received: list[Any] = []

    def denoise(
        _base: Any,
        _prompt: Any,
        _negative: Any,
        seeds: Any,
        settings: Any,
        _output: Any,
        on_step: Any,
        _init_image: Any,
    ) -> Any:
        received.append(settings)
        on_step()
        return [Image.new("RGB", (16, 16)) for _ in seeds]

    monkeypatch.setattr(base_model, "denoise", denoise)
    monkeypatch.setattr(sampling, "denoise", denoise)
    return received


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The name of every picture that is decoded."""
    names: list[str] = []
    real = upload_checks._opened
    monkeypatch.setattr(upload_checks, "_opened", lambda data, name: names.append(Path(name).name) or real(data, name))
    return names


def check_identity(built: list[GenerationRequest], sampled: list[Any], expected: GenerationRequest) -> None:
    """One request was built, it is what was asked for, and the sampler received that object for all three images."""
    (request,) = built
    assert request.model_dump() == expected.model_dump()
    assert [received is request for received in sampled] == [True] * 3


def test_the_command_line_hands_its_request_to_the_sampler(
    studio, library: Library, tiny_folder, tmp_path, built, sampled
):
    done = studio(
        "generate", PROMPT, "--library", library.root, "--base", tiny_folder, "-o", tmp_path, "--num-images", 3,
        "--seed", 5, "--num-inference-steps", 1, "--batch-size", 1, "--scheduler", "euler", "--guidance-scale", 3,
        "--guidance-rescale", 0.25, "--method", "ties", "--density", 0.25, "--average", "--negative-prompt", "rain",
        "--size", "32x16", "--concept", "lora", "--strength", "rex=0.5", "--strength",
        "Milo=unet:0.8,text_encoder:0.5", "--region", "rex:0,0,1,0.5",
    )  # fmt: skip
    assert done.status == 0, done.err
    check_identity(built[:1], sampled, GenerationRequest(prompt=PROMPT, **WHOLE))


def test_the_api_hands_its_request_to_the_sampler(workflow: Workflow, built, sampled):
    settings = {**WHOLE, "concepts": ["lora"], "size": [32, 16], "regions": {"rex": [0, 0, 1, 0.5]}}
    endpoints: Any = api.Endpoints(workflow, None)  # pyright: ignore[reportArgumentType]
    assert len(endpoints.generate(PROMPT, settings)) == 3
    check_identity(built[:1], sampled, GenerationRequest(prompt=PROMPT, **WHOLE))


@pytest.fixture
def generate_event(workflow: Workflow) -> Any:
    """What the page calls when Generate is pressed."""

    async def built_page() -> gr.Blocks:
        return build(workflow)

    with ThreadPoolExecutor(1) as pool:  # in a loop of its own, which is closed in the end
        page = pool.submit(asyncio.run, built_page()).result()
    (event,) = [each for each in page.fns.values() if getattr(each.fn, "__name__", "") == "generate"]
    return event


def test_the_page_hands_its_request_to_the_sampler(generate_event, built, sampled):
    wanted = {
        "prompt": PROMPT, "generate-num_images": 3, "generate-seed": 5, "generate-random_seed": False,
        "generate-num_inference_steps": 1,
        "generate-batch_size": 1, "generate-scheduler": "euler", "generate-guidance_scale": 3.0,
        "generate-guidance_rescale": 0.25, "generate-method": "ties", "generate-density": "0.25",
        "generate-average": True, "generate-negative_prompt": "rain", "generate-size": "32x16",
        "generate-concepts": ["lora"], "generate-strengths": "Milo=unet:0.8,text_encoder:0.5",
        "boxes": {"names": ["rex"], "boxes": {"rex": [0, 0, 1, 0.5]}},
    }  # fmt: skip
    controls = list(generate_event.inputs)
    values = [wanted.pop(part.elem_id) if part.elem_id in wanted else part.value for part in controls]
    assert not wanted
    values[next(i for i, part in enumerate(controls) if part.elem_classes == ["strength"])] = 0.5
    *_, last = generate_event.fn(values[0], lambda *_, **__: None, *values[1:])
    assert len(last[0]) == 3, last
    check_identity(built[:1], sampled, GenerationRequest(prompt=PROMPT, **WHOLE))


def test_page_and_command_line_offer_every_field():
    fields = {*GenerationRequest.model_fields}
    flags = {"region": "regions", "strength": "strengths", "concept": "concepts"}
    options = {flags.get(name, name) for name in inspect.signature(generate_command.generate).parameters}
    assert fields - {"auto_regions"} <= options  # --region auto
    page = {"prompt", "regions", "strengths", "size", "control", "image", "mask", *generation_form.SETTINGS}
    assert fields == page


@pytest.mark.parametrize("method", ["fedavg", generation.UNMERGED])
def test_a_concept_is_read_and_built_once(workflow: Workflow, sampled, monkeypatch, tmp_path, method: str):
    reads, builds, sessions = [], [], []
    read, build, open_session = from_library.from_bytes, loaded_concept.build_adapters, serving.Serving.__init__
    monkeypatch.setattr(from_library, "from_bytes", lambda *given: reads.append(1) or read(*given))
    monkeypatch.setattr(loaded_concept, "build_adapters", lambda *given: builds.append(1) or build(*given))
    monkeypatch.setattr(serving.Serving, "__init__", lambda *given: sessions.append(1) or open_session(*given))
    workflow.generate(GenerationRequest(prompt=PROMPT, method=method, **QUICK))
    assert (len(reads), len(builds), len(sampled)) == (2, 2, 3)
    assert len(sessions) == (method == generation.UNMERGED)
    workflow.merge(["rex", "Milo"], tmp_path / "both.safetensors")
    import_export.export_concepts(workflow, ["rex"], "kohya", tmp_path / "rex.safetensors")
    workflow.generate(GenerationRequest(prompt="a <rex>", method="unmerged", **QUICK))
    assert (len(reads), len(builds)) == (2, 2)


def test_a_merged_file_is_read_once_a_request(workflow: Workflow, sampled, monkeypatch, tmp_path):
    workflow.merge(["rex", "Milo"], tmp_path / "both.safetensors")
    reads: list[str] = []
    real = generation.read_concept_file
    monkeypatch.setattr(generation, "read_concept_file", lambda name: reads.append(name) or real(name))
    both = str(tmp_path / "both.safetensors")
    workflow.generate(GenerationRequest(prompt=PROMPT, concepts=(both,), **QUICK))
    assert (reads, len(sampled)) == ([both], 3)


def test_uploads_are_decoded_once(workflow: Workflow, pictures: Path, decoded, monkeypatch):
    monkeypatch.setattr(api, "get_upload_folder", lambda: str(pictures))
    endpoints: Any = api.Endpoints(workflow, None)  # pyright: ignore[reportArgumentType]
    files = sorted(pictures.glob("*.png"))
    added = endpoints.add_concept("tom", "cat", [{"path": str(file)} for file in files])
    assert (added["pictures"], sorted(decoded)) == (3, [file.name for file in files])
    uploads = Uploads()
    again = [uploads.decode(file, file.name) for _ in range(2) for file in files]
    assert len(decoded) == 6
    workflow.library.add_concept("eve", "cat", again[:3])
    assert len(decoded) == 6
    uploads.forget(files[:1])
    uploads.decode(files[0], "0.png")
    assert len(decoded) == 7
    small = Uploads(max_pixels=80 * 64)
    for file in (files[0], files[1], files[0]):
        small.decode(file, file.name)
    assert len(decoded) == 10, "what does not fit is decoded again"


def test_a_control_image_is_decoded_once_a_request(workflow: Workflow, pictures: Path, decoded, sampled, monkeypatch):
    loads: list[str] = []
    monkeypatch.setattr("studio.models.control.load_control_model", lambda _base, source: loads.append(source))
    monkeypatch.setattr("studio.models.control.with_control", lambda _base, conditions, _size: nullcontext(conditions))
    image = ControlInput(kind="pose", image=str(pictures / "0.png"), model="someone/pose", conditioning_scale=0.5)
    workflow.generate(GenerationRequest(prompt="a cat", control=(image,), **QUICK))
    assert (decoded, loads, len(sampled)) == (["0.png"], ["someone/pose"], 3)


def test_other_machines_choose_no_files_of_this_one(workflow: Workflow, pictures: Path, tmp_path, monkeypatch):
    monkeypatch.setattr(api, "get_upload_folder", lambda: str(pictures))
    endpoints: Any = api.Endpoints(workflow, None)  # pyright: ignore[reportArgumentType]
    image: dict[str, Any] = {"kind": "pose", "image": {"path": str(pictures / "0.png")}}
    for wrong, said in (
        ({**image, "model": str(tmp_path)}, "is not a Hugging Face Hub model ID"),
        ({**image, "image": {"path": "/etc/passwd"}}, "only reads uploaded files"),
        ({**image, "image": str(pictures / "0.png")}, "only reads uploaded files"),
    ):
        with pytest.raises(StudioError, match=said):
            endpoints.generate("a cat", {"control": [wrong]})


def test_a_file_of_prompts_is_a_request_each(
    studio, library: Library, tiny_folder, tmp_path: Path, workflow: Workflow, sampled, form_values: Callable
):
    file = tmp_path / "prompts.txt"
    file.write_text("a <rex>\n\n  a cat on the beach \n", encoding="utf-8")
    at = ("--library", library.root, "--base", tiny_folder, "-o", tmp_path / "out", "--num-images", 1)
    done = studio("generate", "--prompts", file, *at, "--json").document
    assert done["prompts"] == ["a <rex>", "a cat on the beach"]
    assert [received.prompt for received in sampled] == done["prompts"]
    assert len(done["pictures"]) == 2
    assert "Give either a prompt, or --prompts" in studio("generate", "a cat", "--prompts", file, *at).err
    assert "Give either a prompt, or --prompts" in studio("generate", *at).err
    file.write_text(" \n")
    assert "prompts.txt has no prompts" in studio("generate", "--prompts", file, *at).err
    file.write_text("a cat\na dog")
    assert [each.prompt for each in requests_of(workflow, given(form_values(prompts=str(file))), tmp_path)] == [
        "a cat", "a dog",
    ]  # fmt: skip


@pytest.fixture
def form_values() -> Callable[..., tuple[Any, ...]]:
    """A function that gives the values of the page's controls, some of them changed."""

    def values(**changes: Any) -> tuple[Any, ...]:
        shown = generation_form.shown(GenerationRequest(prompt=changes.pop("prompt", ""), num_images=1), [])
        shown[1] = changes.pop("prompts", None)
        return tuple(shown)

    return values


def test_settings_come_back_into_the_form_as_they_were(workflow: Workflow, tmp_path: Path):
    request = GenerationRequest(prompt=PROMPT, **WHOLE)
    (again,) = requests_of(workflow, given(tuple(generation_form.shown(request, ["rex", "Milo"]))), tmp_path)
    assert again == request


def test_a_random_seed_is_another_at_every_press(workflow: Workflow, form_values: Callable, tmp_path: Path):
    values = list(form_values(prompt="a cat"))
    fixed = given(tuple(values))
    assert [requests_of(workflow, fixed, tmp_path)[0].seed for _ in range(2)] == [0, 0]
    values[8] = True
    seeds = {requests_of(workflow, given(tuple(values)), tmp_path)[0].seed for _ in range(4)}
    assert len(seeds) > 1
