from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from concepts.errors import StudioError
from studio.models.generation_request import GenerationRequest
from ui.services.init_image import init_image_of
from ui.services.workflow import Workflow

QUICK: dict[str, Any] = {"seed": 3, "num_images": 2, "num_inference_steps": 3}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of the tiny base's aspect ratio, with its mask beside it: the left half."""
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "photo.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(tmp_path / "mask.png")
    return tmp_path / "photo.png"


def test_a_picture_is_turned_upright_and_transparent_parts_of_a_mask_are_white(tmp_path: Path):
    turned = Image.new("RGB", (100, 80))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.jpg", exif=exif)
    mask = Image.new("RGBA", (80, 100), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 80, 30))
    mask.save(tmp_path / "m.png")
    found = init_image_of(
        GenerationRequest(prompt="a cat", image=str(tmp_path / "a.jpg"), mask=str(tmp_path / "m.png"))
    )
    assert found
    assert found.mask
    assert found.picture.size == (80, 100)
    assert found.mask.convert("L").getbbox() == (0, 0, 80, 30)


@pytest.mark.parametrize("method", [None, "unmerged"])
def test_concepts_are_put_into_a_photo(workflow: Workflow, photo: Path, method: str | None):
    """Two concepts in their boxes, inside a mask: outside it every pixel is the photo's."""
    steps: list[int] = []
    request = GenerationRequest(
        prompt="a <rex> and a <Milo>", method=method, image=str(photo), mask=str(photo.with_name("mask.png")),
        mask_blur=0, regions={"rex": (0, 0, 0.5, 1), "Milo": (0.5, 0, 1, 1)}, batch_size=1, **QUICK,
    )  # fmt: skip
    images = workflow.generate(request, lambda: steps.append(1))
    plain = workflow.generate(GenerationRequest(**{**request.model_dump(), "prompt": "a cat", "regions": {}}))
    assert len(steps) == request.total_steps == 6
    kept = np.asarray(Image.open(photo).resize((16, 16), Image.Resampling.LANCZOS))[:, 8:]
    for image in (*images, *plain):
        assert np.array_equal(np.asarray(image)[:, 8:], kept)
    assert len({image.tobytes() for image in (*images, *plain)}) == 4


def test_a_region_in_pixels_is_of_the_image_that_comes_out(workflow: Workflow, tmp_path: Path):
    Image.new("RGB", (200, 100), "green").save(tmp_path / "wide.png")
    given: dict[str, Any] = {"prompt": "a <rex>", "image": str(tmp_path / "wide.png"), "size": (32, 16), **QUICK}
    pixels = workflow.generate(GenerationRequest(**given, regions={"rex": (0, 0, 16, 16)}))
    fractions = workflow.generate(GenerationRequest(**given, regions={"rex": (0, 0, 1, 0.5)}))
    assert pixels[0].size == (32, 16)
    assert [image.tobytes() for image in pixels] == [image.tobytes() for image in fractions]


@pytest.mark.parametrize(
    ("image", "mask", "said"),
    [
        ("nowhere.png", None, "There is no file nowhere.png"),
        ("words.png", None, "words.png is not a picture"),
        ("photo.png", "nowhere.png", "There is no file nowhere.png"),
        ("photo.png", "wide.png", "The mask has 100x64 pixels, and the start image 64x64"),
        ("photo.png", "black.png", "The mask is empty"),
    ],
)
def test_files_that_cannot_be_are_refused(photo: Path, tmp_path: Path, image: str, mask: str | None, said: str):
    (tmp_path / "words.png").write_text("no picture")
    Image.new("L", (100, 64), 255).save(tmp_path / "wide.png")
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    files = {"image": str(tmp_path / image), "mask": mask and str(tmp_path / mask)}
    with pytest.raises(StudioError, match=said):
        init_image_of(GenerationRequest(prompt="a cat", **files))
