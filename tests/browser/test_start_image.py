"""A concept is put into a photo, on the page and through its API."""

from collections.abc import Callable
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Page, expect

from concepts import Library
from tests.browser.steps import photograph, tab
from ui.services.gallery import settings_of

GREEN = (0, 128, 0)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (120, 120), GREEN).save(tmp_path / "garden.png")
    return tmp_path / "garden.png"


def test_what_is_painted_over_is_repainted(
    open_page: Callable[..., Page], address: str, trained: Library, photo: Path, screenshots: Path, tmp_path: Path
):
    page = open_page(address)
    tab(page, "Generate")
    page.locator("#prompt textarea").fill("a photo of <rex>")
    page.get_by_role("button", name="Start from a picture").click()
    start = page.locator("#start-image")
    strength = start.get_by_label("number input for Denoising strength")
    expect(strength).to_have_value("0.75")
    (tmp_path / "words.png").write_text("no picture")
    start.locator("input[type=file]").set_input_files(tmp_path / "words.png")
    expect(page.locator("#generate-image").get_by_role("alert")).to_contain_text("words.png is not a picture")
    start.get_by_label("Clear").first.click()
    start.locator("input[type=file]").set_input_files(photo)
    canvas = start.locator("canvas")
    expect(canvas).to_have_attribute("aria-busy", "false")
    canvas.hover(position={"x": 20, "y": 20})
    page.mouse.down()
    canvas.hover(position={"x": 20, "y": 200})
    page.mouse.up()
    expect(strength).to_have_value("1")
    photograph(page, screenshots, "start-image")
    start.get_by_label("number input for Mask blur").fill("0")
    page.get_by_role("button", name="More settings").click()
    page.get_by_label("number input for steps").fill("2")
    page.get_by_label("Images", exact=True).locator("visible=true").fill("1")
    before = {*(trained.local / "generated").glob("*.png")}
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator("#generated .grid-container button img")).to_have_count(len(before) + 1)
    (file,) = {*(trained.local / "generated").glob("*.png")} - before
    request, _ = settings_of(file)
    assert (request.image, request.mask, request.denoising_strength) == ("garden.png", "mask.png", 1)
    with Image.open(file) as image:
        assert image.crop((8, 0, 16, 16)).getcolors() == [(128, GREEN)]
        assert image.crop((0, 0, 4, 8)).getcolors() != [(32, GREEN)]
    page.locator("#generated .grid-container button").first.click()
    page.get_by_role("button", name="Use these settings").click()
    expect(page.get_by_text("The image was generated from garden.png")).to_be_visible()
    expect(canvas).to_have_count(0)


@pytest.mark.usefixtures("trained")
def test_the_api_takes_uploaded_pictures(address: str, photo: Path, tmp_path: Path):
    mask = Image.new("L", (120, 120))
    mask.paste(255, (0, 0, 60, 120))
    mask.save(tmp_path / "mask.png")
    client = Client(address, analytics_enabled=False, verbose=False)
    settings = {"num_images": 1, "num_inference_steps": 2, "mask_blur": 0}
    files = {"image": handle_file(photo), "mask": handle_file(tmp_path / "mask.png")}
    (made,) = client.predict("a <rex>", {**settings, **files}, api_name="/generate")
    with Image.open(made) as image:
        assert image.crop((8, 0, 16, 16)).getcolors() == [(128, GREEN)]
    with pytest.raises(AppError, match="only reads uploaded files"):
        client.predict("a <rex>", {**settings, "image": {"path": "/etc/passwd"}}, api_name="/generate")
    client.close()
