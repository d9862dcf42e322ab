"""The start image on the page and in its API: what was painted becomes the mask, and no other file is read."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from concepts.errors import StudioError
from studio.models.generation_request import GenerationRequest
from ui.services.gallery import settings_of
from ui.services.workflow import Workflow
from ui.web import api
from ui.web.tabs import generation_form
from ui.web.tabs.events import FieldError
from ui.web.tabs.generation_form import given, requests_of


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "uploads").mkdir()
    Image.new("RGB", (200, 100), "green").save(tmp_path / "uploads" / "photo.png")
    return str(tmp_path / "uploads" / "photo.png")


def painted(box: tuple[int, int, int, int] | None) -> dict[str, Any]:
    """What the brush holds, over the picture at a quarter of its size."""
    mask = Image.new("RGB", (50, 25))
    if box:
        mask.paste("white", box)
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return {"mask": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), "drawn": True}


def requested(workflow: Workflow, folder: Path, request: GenerationRequest, **held: Any) -> GenerationRequest:
    """What the page asks for when its controls hold a request and these."""
    values = given(tuple(generation_form.shown(request, [])))
    changed: Mapping[str, Any] = {**values.__dict__, **held}
    (made,) = requests_of(workflow, generation_form.Given(**changed), folder)
    return made


def test_what_was_painted_becomes_the_mask(workflow: Workflow, photo: str, tmp_path: Path):
    request = requested(
        workflow, tmp_path, GenerationRequest(prompt="a cat"), image=photo, mask=painted((0, 0, 25, 25))
    )
    assert request.image == photo
    assert request.mask
    with Image.open(request.mask) as mask:
        assert (mask.size, mask.getbbox()) == ((200, 100), (0, 0, 100, 100))
    assert request.mask_blur == 4


@pytest.mark.parametrize("mask", [None, {}, {"mask": "", "drawn": False}, painted(None)])
def test_without_paint_there_is_no_mask(workflow: Workflow, photo: str, tmp_path: Path, mask: Any):
    kept = GenerationRequest(prompt="a cat", denoising_strength=0.4)
    request = requested(workflow, tmp_path, kept, image=photo, mask=mask)
    assert (request.image, request.mask, request.denoising_strength) == (photo, None, 0.4)


def test_without_a_start_image_nothing_of_it_is_asked(workflow: Workflow, tmp_path: Path):
    request = requested(workflow, tmp_path, GenerationRequest(prompt="a cat"), mask=painted((0, 0, 9, 9)))
    assert (request.image, request.mask, request.denoising_strength, request.mask_blur) == (None, None, None, None)


def test_a_file_that_is_no_picture_is_told_beside_its_field(workflow: Workflow, tmp_path: Path):
    (tmp_path / "words.png").write_text("no picture")
    with pytest.raises(FieldError, match=r"words\.png is not a picture") as refused:
        requested(workflow, tmp_path, GenerationRequest(prompt="a cat"), image=str(tmp_path / "words.png"))
    assert refused.value.field == "generate-image"


def test_the_api_takes_uploaded_files_alone(workflow: Workflow, photo: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(api, "get_upload_folder", lambda: str(tmp_path / "uploads"))
    endpoints: Any = api.Endpoints(workflow, None)  # pyright: ignore[reportArgumentType]
    Image.new("L", (200, 100), 255).save(tmp_path / "uploads" / "mask.png")
    files = {"image": {"path": photo}, "mask": {"path": str(tmp_path / "uploads" / "mask.png")}}
    quick = {"num_images": 1, "num_inference_steps": 2, "size": [16, 16]}
    (made,) = endpoints.generate("a <rex>", {**files, **quick, "denoising_strength": 0.5})
    request, _ = settings_of(Path(made["path"]))
    assert (request.image, request.mask, request.denoising_strength) == ("photo.png", "mask.png", 0.5)
    for name in ("image", "mask"):
        for wrong in (photo, {"path": "/etc/passwd"}, {"path": str(workflow.library.concept("rex").pictures[0])}):
            with pytest.raises(StudioError, match="only reads uploaded files"):
                endpoints.generate("a cat", {**files, name: wrong})
