"""What can be done with a concept in the library: captions, masks, export and import."""

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect
from steps import opened

from concepts import Library
from concepts.storage import read_file


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
    expect(panel).to_contain_text('"" cannot be a name')
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
