from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from concepts import LibraryError
from concepts.errors import StudioError
from studio.models.generation_request import GenerationRequest, request_from_text
from studio.models.regions.region import AutoRegion, MaskRegion, Region
from ui.services.gallery import masks_of, save_masks
from ui.services.regions import regions_of

PROMPT = "a photo of <rex> and <milo> on the beach"


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """The right half is white."""
    levels = np.zeros((64, 64), np.uint8)
    levels[:, 32:] = 255
    Image.fromarray(levels).save(tmp_path / "milo.png")
    return tmp_path / "milo.png"


def test_boxes_masks_and_found_regions_mix(mask: Path):
    request = GenerationRequest(
        prompt=f"{PROMPT} with <tom>", regions={"Rex": (0, 0, 64, 32), "milo": str(mask)}, auto_regions=True
    )
    found = regions_of(request, (64, 64))
    assert list(found) == ["Rex", "milo", "tom"]
    assert found["Rex"] == Region("a photo of <Rex>", 0, 0, 1, 0.5)
    assert isinstance(found["milo"], MaskRegion)
    assert found["milo"].coverage(2, 2).tolist() == [[0, 1], [0, 1]]
    assert found["tom"] == AutoRegion("a photo of <tom>", ("<tom>",))


def test_without_the_option_only_given_regions_are_there():
    assert regions_of(GenerationRequest(prompt=PROMPT), (64, 64)) == {}
    assert list(regions_of(GenerationRequest(prompt=PROMPT, regions={"rex": "auto"}), (64, 64))) == ["rex"]


def test_masks_that_are_none_are_refused(tmp_path: Path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    for name, kind, words in (
        ("missing.png", StudioError, "does not exist"),
        ("text.png", LibraryError, "text.png"),
        ("black.png", StudioError, "is empty"),
    ):
        with pytest.raises(kind, match=words):
            regions_of(GenerationRequest(prompt=PROMPT, regions={"rex": str(tmp_path / name)}), (64, 64))


def test_a_picture_keeps_the_names_of_masks_and_no_folders(mask: Path):
    request = GenerationRequest(prompt=PROMPT, regions={"rex": str(mask), "milo": "auto"}, auto_regions=True)
    assert request_from_text(request.text(0)).regions == {"rex": "milo.png", "milo": "auto"}
    assert request_from_text(request.text(0)).auto_regions


def test_a_picture_keeps_its_masks_beside_it(tmp_path: Path):
    picture = tmp_path / "a[1].png"
    save_masks(picture, {})
    assert not (tmp_path / "masks").exists()
    save_masks(picture, {"rex": Image.new("L", (4, 4), 9), "milo-2": Image.new("L", (4, 4), 99)})
    found = masks_of(picture)
    assert {name: mask.getpixel((0, 0)) for name, mask in found.items()} == {"rex": 9, "milo-2": 99}
    assert masks_of(tmp_path / "a1.png") == {}
