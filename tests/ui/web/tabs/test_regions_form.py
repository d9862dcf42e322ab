import numpy as np
import pytest
from PIL import Image

from concepts.errors import StudioError
from ui.web.tabs.regions_form import COLOURS, overlaid, regions_given


def test_masks_come_before_boxes_and_only_concepts_of_the_prompt_count():
    placed = {"boxes": {"rex": [0, 0, 1, 0.5], "milo": [0, 0.5, 1, 1], "gone": [0, 0, 1, 1]}}
    assert regions_given(placed, ["folder/Milo.png"], ["rex", "milo"]) == {
        "rex": (0, 0, 1, 0.5),
        "milo": "folder/Milo.png",
    }
    assert regions_given(None, None, ["rex"]) == {}


@pytest.mark.parametrize(("names", "words"), [(["rex"], "Name it rex.png"), ([], "names no concept for the mask")])
def test_a_mask_of_no_concept_is_refused(names: list[str], words: str):
    with pytest.raises(StudioError, match=words):
        regions_given({}, ["other.png"], names)


def test_each_mask_is_shown_in_the_colour_of_its_name_in_the_prompt():
    left = Image.new("L", (64, 64))
    left.paste(255, (0, 0, 32, 64))
    masks = {"azura": Image.eval(left, lambda level: 255 - level), "saffron": left}
    shown = overlaid(Image.new("RGB", (64, 64)), masks, ["saffron", "azura"])
    assert min(shown.size) >= 384
    for place, colour in ((0.2, COLOURS[0]), (0.8, COLOURS[1])):
        pixel = np.array(shown.getpixel((int(place * shown.width), 10)), float)
        wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], float)
        np.testing.assert_allclose(pixel / pixel.sum(), wanted / wanted.sum(), atol=0.02)
