import pytest
from PIL import Image
from pydantic import ValidationError

from concepts.errors import StudioError
from studio.models.a1111_parameters import KEY, parameters_text, read_parameters
from studio.models.generation_request import GenerationRequest
from studio.models.scheduler_names import SCHEDULERS
from training.reporting.image_grid import png_bytes
from ui.services.gallery import settings_of, with_settings

WRITTEN = """a photo of a (dog:1.2), in
two lines
Negative prompt: blurry, "grey": dull
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 4294967297, Size: 640x512, \
Model hash: 6ce0161689, Model: v1-5, Clip skip: 2, Lora hashes: "rex: 1a2b, milo: 3c4d", Version: v1.10.1"""


def test_a_request_is_written_as_a1111_writes_it():
    request = GenerationRequest(
        prompt="a <rex> and a <milo>", strengths={"Rex": 0.8, "milo": {"unet": 0.5}}, negative_prompt="blurry",
        num_inference_steps=28, scheduler="dpm++ 2m karras", guidance_scale=6.5,
    )  # fmt: skip
    assert parameters_text(request, 7, (640, 512)) == (
        "a <rex:0.8> and a <milo>\nNegative prompt: blurry\n"
        "Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 7, Size: 640x512"
    )


def test_the_text_of_a1111_is_read_and_what_has_no_place_is_told():
    values, ignored = read_parameters(WRITTEN)
    assert values == {
        "prompt": "a photo of a (dog:1.2), in\ntwo lines", "negative_prompt": 'blurry, "grey": dull',
        "prompt_syntax": "a1111", "num_inference_steps": 28, "scheduler": "dpm++ 2m karras", "guidance_scale": 6.5,
        "guidance_rescale": 0.0, "seed": 4294967297, "size": (640, 512),
    }  # fmt: skip
    assert ignored == ["Clip skip", "Lora hashes"]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({}, {}),
        ({"image": "a.png"}, {"denoising_strength": 0.75}),
        ({"image": "a.png", "denoising_strength": 0.4, "mask_blur": 9}, {"denoising_strength": 0.4}),
        ({"image": "a.png", "mask": "b.png"}, {"denoising_strength": 1.0, "mask_blur": 4.0}),
    ],
)
def test_the_strength_of_a_start_image_is_written_and_read(given, written):
    values, ignored = read_parameters(parameters_text(GenerationRequest(prompt="a cat", **given), 3, (128, 64)))
    assert {name: values[name] for name in ("denoising_strength", "mask_blur") if name in values} == written
    assert ignored == []


def test_the_strength_of_a_second_pass_is_of_no_start_image():
    text = "a cat\nSteps: 20, CFG scale: 7, Seed: 1, Denoising strength: 0.5, Hires upscale: 2"
    values, ignored = read_parameters(text)
    assert "denoising_strength" not in values
    assert ignored == ["Denoising strength", "Hires upscale"]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_sampler_is_read_back(name):
    request = GenerationRequest(prompt="a cat", scheduler=name)
    values, ignored = read_parameters(parameters_text(request, 3, (128, 64)))
    assert (values["scheduler"], values["seed"], values["size"], ignored) == (name, 3, (128, 64), [])


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("DPM++ 2M SDE Karras", "dpm++ 2m sde karras"),
        ("euler a", "euler a"),
        ("Heun Karras", "heun"),
        ("Restart", None),
    ],
)
def test_samplers_of_other_versions(sampler, expected):
    values, ignored = read_parameters(f"a cat\nSteps: 20, Sampler: {sampler}, CFG scale: 7, Seed: 1")
    assert values.get("scheduler") == expected
    assert ("Sampler" in ignored) is (expected is None)


def test_a_picture_keeps_both_and_our_own_record_is_preferred(tmp_path):
    request = GenerationRequest(prompt="a <rex>", guidance_rescale=0.3, regions={"rex": (0, 0, 1, 0.5)}, num_images=1)
    (tmp_path / "a.png").write_bytes(with_settings(Image.new("RGB", (64, 32)), request, 5))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info[KEY].endswith("Seed: 5, Size: 64x32")
    assert settings_of(tmp_path / "a.png") == (request.model_copy(update={"seed": 5}), [])


def test_a_picture_of_a1111_alone(tmp_path):
    (tmp_path / "a.png").write_bytes(png_bytes(Image.new("RGB", (8, 8)), {KEY: WRITTEN}))
    request, ignored = settings_of(tmp_path / "a.png")
    assert (request.seed, request.size, request.prompt_syntax, len(ignored)) == (4294967297, (640, 512), "a1111", 2)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [("", StudioError, "not A1111's"), ("a cat, Steps: 20", StudioError, "not A1111's"),
     ("a\nSteps: x, CFG scale: 7, Seed: 1", StudioError, "damaged: Steps is 'x'"),
     ("a\nSteps: 1, CFG scale: 7, Size: 8", ValidationError, "size"),
     ("a\nSteps: 0, CFG scale: 7, Seed: 1", ValidationError, "num_inference_steps")],
)  # fmt: skip
def test_damaged_text_is_refused(tmp_path, text, error, message):
    (tmp_path / "a.png").write_bytes(png_bytes(Image.new("RGB", (8, 8)), {KEY: text}))
    with pytest.raises(error, match=message):
        settings_of(tmp_path / "a.png")
