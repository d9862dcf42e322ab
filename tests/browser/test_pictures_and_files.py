"""What can be done with a concept in the library: captions, masks, export and import."""

import io
import re
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from concepts import Library
from concepts.storage import read_file
from tests.browser.steps import opened


def test_captions_and_masks_are_kept(open_page: Callable[..., Page], address: str, trained: Library):
    page = open_page(address)
    opened(page, "onyx")
    pictures = page.locator("#pictures button")
    expect(pictures).to_have_count(5)
    page.get_by_role("button", name="Caption and mask").click()
    pictures.nth(1).click()
    expect(pictures.nth(1)).to_have_attribute("aria-pressed", "true")
    page.locator("#caption textarea").fill("a vase on the beach")
    canvas = page.locator("#brush canvas")
    canvas.hover(position={"x": 20, "y": 20})
    page.mouse.down()
    canvas.hover(position={"x": 60, "y": 20})
    page.mouse.up()
    page.locator("#annotate-save").click()
    expect(page.locator("#annotate").get_by_text("Saved for picture 2.")).to_be_visible()
    expect(pictures.nth(1)).to_have_accessible_name("Picture 2, described, masked")
    concept = trained.concept("onyx")
    assert concept.captions[1] == "a vase on the beach"
    assert concept.masks[1]
    with (
        Image.open(io.BytesIO(read_file(concept.masks[1]))) as mask,
        Image.open(io.BytesIO(read_file(concept.pictures[1]))) as picture,
    ):
        assert mask.size == picture.size
        assert mask.getpixel((mask.width // 8, mask.height // 15)) == 255
        assert mask.getpixel((mask.width - 2, mask.height - 2)) == 0
    pictures.nth(0).click()
    expect(page.locator("#caption textarea")).to_have_value("")
    pictures.nth(1).click()
    expect(page.locator("#caption textarea")).to_have_value("a vase on the beach")
    page.get_by_role("button", name="Clear").click()
    page.locator("#annotate-save").click()
    expect(pictures.nth(1)).to_have_accessible_name("Picture 2, described")
    assert trained.concept("onyx").masks[1] is None


def test_the_brush_paints_by_keyboard(open_page: Callable[..., Page], address: str, trained: Library):
    page = open_page(address)
    opened(page, "onyx")
    page.get_by_role("button", name="Caption and mask").click()
    picture = page.locator("#pictures button").nth(2)
    picture.click()
    expect(picture).to_have_attribute("aria-pressed", "true")
    canvas = page.locator("#brush canvas")
    expect(canvas).to_have_attribute("aria-busy", "false")
    expect(canvas).to_have_accessible_name(re.compile("arrow keys move the brush, Space paints"))
    expect(page.locator("#brush").get_by_text("By keyboard")).to_be_visible()
    clear = page.get_by_role("button", name="Clear")
    clear.focus()
    page.keyboard.press("Tab")
    expect(canvas).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.down("Shift")
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    page.keyboard.up("Shift")
    for key in ("e", "-", "-", "Space"):  # a hole in the end of the stroke
        page.keyboard.press(key)
    expect(canvas).to_be_focused()
    expect(page.get_by_role("button", name="Eraser")).to_have_attribute("aria-pressed", "true")
    page.locator("#annotate-save").press("Enter")
    expect(page.locator("#annotate").get_by_text("Saved for picture 3.")).to_be_visible()
    mask = trained.concept("onyx").masks[2]
    assert mask
    with Image.open(io.BytesIO(read_file(mask))) as picture:
        levels = [picture.getpixel((round(picture.width * x), picture.height // 2)) for x in (0.1, 0.25, 0.5, 0.8)]
    assert levels == [0, 0, 255, 0]
    trained.annotations.set_mask("onyx", 2, None)


def test_a_concept_goes_out_and_comes_back(
    open_page: Callable[..., Page], address: str, trained: Library, tmp_path: Path
):
    page = open_page(address)
    opened(page, "onyx")
    page.get_by_role("button", name="Export").click()
    page.get_by_role("button", name="Make the files").click()
    expect(page.get_by_role("alert")).to_contain_text("not trained yet")
    opened(page, "azura")
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_role("button", name="Make the files").click()
    links = page.locator("#exported a")
    expect(links).to_have_count(2)
    for link in links.all():
        with page.expect_download() as saved:
            link.click()
        saved.value.save_as(tmp_path / saved.value.suggested_filename)
    page.get_by_role("button", name="Import a file of another tool").click()
    panel = page.locator("#import")
    panel.get_by_role("button", name="Import", exact=True).click()
    expect(panel).to_contain_text("Drop the .safetensors file first.")
    expect(panel).to_contain_text('"" is not a valid name')
    file, token = panel.locator("input[type=file]").all()
    token.set_input_files(tmp_path / "azura.tokens.safetensors")  # first, since a field that is full has no input
    file.set_input_files(tmp_path / "azura.safetensors")
    panel.get_by_placeholder("dragon", exact=True).fill("their-azura")
    expect(panel.get_by_text("azura.tokens")).to_be_visible()
    panel.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator("#cards button.card", has_text="their-azura")).to_contain_text("imported")
    result = trained.concept("their-azura").result
    assert result
    assert result.adapter == "imported"
