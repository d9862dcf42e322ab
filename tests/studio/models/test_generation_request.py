import pytest
from PIL import Image
from pydantic import ValidationError

from concepts.errors import StudioError
from studio.models.generation_request import ControlInput, GenerationRequest, request_from_text
from training.reporting.image_grid import png_bytes
from ui.services.gallery import keep, latest, settings_of, with_settings

WHOLE = GenerationRequest(
    prompt='a photo of <rex> and <milo>, "quoted"', concepts=("lora",), method="ties",
    strengths={"rex": 0.5, "milo": {"unet": 0.8, "unet.mid_block": 0}},
    average=True, seed=7, num_images=3, num_inference_steps=5, guidance_scale=2.5, negative_prompt="null",
    regions={"rex": (0, 0, 1, 0.5)}, density=0.25, ridge=0.01, rank=3, scheduler="dpm++ 2m", guidance_rescale=0.1,
    size=(256, 128), batch_size=2, control=(ControlInput(kind="pose", image="pose.png", conditioning_scale=0.5),),
    image="a photo.png", mask="mask.png", denoising_strength=0.6, mask_blur=2,
)  # fmt: skip


def test_a_picture_keeps_its_settings(tmp_path):
    picture = Image.new("RGB", (8, 8))
    path = keep(tmp_path, with_settings(picture, WHOLE, 9))
    assert path.parent == tmp_path / "generated"
    assert settings_of(path) == (WHOLE.model_copy(update={"seed": 9, "num_images": 1}), [])
    plain = keep(tmp_path, with_settings(picture, GenerationRequest(prompt="a cat"), 0))
    assert settings_of(plain) == (GenerationRequest(prompt="a cat", num_images=1), [])
    assert latest(tmp_path) == [plain, path]


def test_of_files_the_names_alone_are_kept():
    control = (ControlInput(kind="pose", image="/home/ada/pose.png", model="someone/pose"),)
    kept = GenerationRequest(prompt="a cat", control=control, image="/home/ada/a.png", mask="masks/m.png").text(0)
    request = request_from_text(kept)
    assert request.control == (ControlInput(kind="pose", image="pose.png", model="someone/pose"),)
    assert (request.image, request.mask) == ("a.png", "m.png")


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({}, 3 * 20),
        ({"denoising_strength": 0.5}, 3 * 20),
        ({"image": "a.png"}, 3 * 15),
        ({"image": "a.png", "denoising_strength": 0.33}, 3 * 6),
        ({"image": "a.png", "denoising_strength": 0.001}, 3),
        ({"image": "a.png", "mask": "m.png"}, 3 * 20),
    ],
)
def test_a_start_image_leaves_fewer_steps(given, steps):
    request = GenerationRequest(prompt="a cat", num_inference_steps=20, num_images=5, batch_size=2, **given)
    assert request.total_steps == steps


def test_a_mask_without_its_image_is_refused():
    with pytest.raises(ValidationError, match="A mask needs the start image"):
        GenerationRequest(prompt="a cat", mask="m.png")


def test_control_of_before_is_read():
    former = {"prompt": "a cat", "conditions": "pose:pose.png, sketch:a.png", "condition_models": "sketch:someone/s"}
    pose, sketch = request_from_text(former).control
    assert (pose.kind, pose.image, pose.model) == ("pose", "pose.png", None)
    assert (sketch.kind, sketch.image, sketch.model) == ("sketch", "a.png", "someone/s")


@pytest.mark.parametrize(
    "text",
    [{}, {"seed": "1"}, {"prompt": "a", "seed": "x"}, {"prompt": "a", "steps": "0"}, {"prompt": "a", "seed": "[]"}],
)
def test_a_foreign_picture_is_refused(tmp_path, text):
    (tmp_path / "a.png").write_bytes(png_bytes(Image.new("RGB", (8, 8)), text))
    with pytest.raises(StudioError, match="has no generation settings"):
        settings_of(tmp_path / "a.png")


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_what_is_no_png_is_refused(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(StudioError, match="has no generation settings"):
        settings_of(tmp_path / "a.png")


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"num_images": 0}, {"num_inference_steps": 1001}, {"guidance_scale": -1}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        GenerationRequest(prompt="a cat", **wrong)
