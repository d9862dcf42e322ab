"""What each tab does, with real models and a real browser."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from concepts import Library
from concepts.samples import SAMPLES
from tests.browser.steps import draw, photograph, tab
from ui.services.gallery import settings_of

TABS = ("Concepts", "Train", "Generate", "Compare", "Score")


def test_an_empty_library_offers_samples(empty: str, open_page: Callable[..., Page], screenshots: Path):
    page = open_page(empty)
    expect(page.locator("#cards")).to_contain_text("Your library is empty.")
    photograph(page, screenshots, "empty")
    page.get_by_role("button", name="Train this: gizmo").click()
    job = page.locator("#jobs .job", has_text="gizmo")
    job.get_by_role("button", name="Cancel").click()
    expect(job.locator(".state")).to_have_text("cancelled")
    tab(page, "Concepts")
    expect(page.locator("#cards button.card")).to_contain_text("gizmo")


def test_pictures_are_judged_before_anything_is_stored(
    open_page: Callable[..., Page], address: str, screenshots: Path, tmp_path: Path
):
    Image.new("RGB", (20, 20)).save(tmp_path / "tiny.png")
    (tmp_path / "words.png").write_text("no picture")
    files = [*SAMPLES["onyx"].pictures[:2], tmp_path / "tiny.png", tmp_path / "words.png"]
    page = open_page(address)
    page.locator("#add-files input[type=file]").set_input_files(files)
    report = page.locator("#add-form .inspection")
    expect(report.locator("li")).to_have_count(4)
    expect(report).to_be_visible()
    expect(report).to_contain_text("tiny.png has only 20x20 pixels")
    expect(report).to_contain_text("words.png is not a picture")
    photograph(page, screenshots, "judged")
    page.get_by_role("button", name="Add with 2 pictures").click()
    expect(page.locator("#add-form")).to_contain_text('"" is not a valid name')
    page.locator("#add-form").get_by_label("Name").fill("Vase-1")
    page.locator("#add-form").get_by_label("Class word").fill("vase")
    page.get_by_role("button", name="Add with 2 pictures").click()
    card = page.locator("#cards button.card", has_text="Vase-1")
    expect(card).to_contain_text("2 pictures")
    card.click()
    details = page.locator("#details")
    details.get_by_label("Name").fill("Vase2")
    details.get_by_role("button", name="Save").click()
    expect(page.locator("#cards button.card", has_text="Vase2")).to_be_visible()
    details.get_by_role("button", name="Remove").click()
    expect(page.locator("#cards button.card", has_text="Vase2")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#cards button.card", has_text="Vase2")).to_be_visible()


def test_an_error_stands_beside_its_field(open_page: Callable[..., Page], address: str, trained: Library):
    page = open_page(address)
    tab(page, "Train")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator("#train-names").get_by_role("alert")).to_contain_text("No concept is chosen")
    page.get_by_label("Concepts").click()
    page.get_by_role("option", name="milo").click()
    page.keyboard.press("Tab")
    page.get_by_label("Rank or budget").fill("eight")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator("#train-rank").get_by_role("alert")).to_contain_text("is not a number. Give one such as 8")
    expect(page.get_by_role("alert")).to_have_count(1)
    page.get_by_label("Rank or budget").fill("8")
    page.get_by_role("button", name="Every option").click()
    page.get_by_label("Max grad norm", exact=True).fill("-1")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator("#train-max_grad_norm").get_by_role("alert")).to_contain_text(
        "max_grad_norm must be at least 0"
    )


def shown_at_full_size(page: Page, count: int, screenshots: Path) -> None:
    """Opens the gallery's pictures in the viewer, walks to the next one by a button, zooms by the wheel and drags."""
    page.get_by_role("button", name="View at full size").click()
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer).to_contain_text(f"1 of {count}")
    expect(viewer.get_by_role("button", name="Previous picture")).to_be_disabled()
    viewer.get_by_role("button", name="Next picture").click()
    expect(viewer).to_contain_text(f"2 of {count}")
    picture = viewer.locator("img")
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.screenshot(path=screenshots / f"viewer-{width}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture.hover()
    page.mouse.wheel(0, -300)
    page.mouse.down()
    page.mouse.move(700, 300)
    page.mouse.up()
    expect(picture).to_have_attribute("style", re.compile(r"translate\(-?[1-9].*scale\(1\.2"))
    viewer.get_by_role("button", name="Close").click()
    expect(viewer).to_have_count(0)


def test_two_concepts_are_generated_in_boxes(
    open_page: Callable[..., Page], address: str, trained: Library, screenshots: Path
):
    page = open_page(address)
    tab(page, "Generate")
    prompt = page.locator("#prompt textarea")
    page.get_by_role("button", name="<rex>").wait_for()
    prompt.press_sequentially("a photo of <re")
    prompt.press("Tab")
    expect(prompt).to_have_value("a photo of <rex>")
    prompt.press_sequentially(" and <onyx> and ")
    page.get_by_role("button", name="<azura>").click()
    marks = page.locator(".prompt mark")
    expect(marks).to_have_text(["<rex>", "<onyx>", "<azura>"])
    expect(marks.nth(1)).to_have_class("untrained")
    prompt.fill("a photo of <rex> and <azura>")
    expect(page.get_by_label("Strength of azura").first).to_be_visible()
    page.get_by_role("button", name="Regions").click()
    canvas = page.locator("#boxes svg")
    draw(canvas, (0.02, 0.02), (0.9, 0.45))
    expect(canvas.locator("rect")).to_have_count(1)
    page.locator("#boxes").get_by_role("button", name="azura").click()
    draw(canvas, (0.02, 0.52), (0.9, 0.98))
    expect(canvas.locator("rect")).to_have_count(2)
    page.get_by_role("button", name="More settings").click()
    page.get_by_label("merge method").click()
    page.get_by_role("option", name="unmerged").click()
    page.get_by_label("number input for steps").fill("2")
    page.get_by_label("Images", exact=True).locator("visible=true").fill("2")
    page.get_by_label("Random seed").uncheck()
    page.locator("#generate-seed input").fill("5")
    before = {*(trained.local / "generated").glob("*.png")}
    prompt.press("Control+Enter")
    expect(page.locator("#generated .grid-container button img")).to_have_count(len(before) + 2)
    files = {*(trained.local / "generated").glob("*.png")} - before
    assert len(files) == 2
    shown_at_full_size(page, len(before) + 2, screenshots)
    kept = {request.seed: request for request, _ in map(settings_of, files)}
    assert set(kept) == {5, 6}
    assert kept[5].method == "unmerged"
    assert set(kept[5].regions) == {"rex", "azura"}
    page.locator("#generate-seed input").fill("9")
    prompt.fill("something else")
    page.locator("#generated .grid-container button").nth(1).click()  # the newest comes first
    page.get_by_role("button", name="Use these settings").click()
    expect(prompt).to_have_value("a photo of <rex> and <azura>")
    expect(page.locator("#generate-seed input")).to_have_value("5")
    expect(canvas.locator("rect")).to_have_count(2)


def test_boxes_are_placed_by_keyboard(open_page: Callable[..., Page], address: str, trained: Library):
    page = open_page(address)
    tab(page, "Generate")
    page.locator("#prompt textarea").fill("a photo of <rex> and <azura>")
    page.get_by_role("button", name="Regions").click()
    canvas, azura = page.locator("#boxes svg"), page.locator("#boxes").get_by_role("button", name="azura")
    azura.focus()
    page.keyboard.press("Enter")
    expect(azura).to_be_focused()
    expect(azura).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Tab")
    expect(canvas).to_be_focused()
    expect(canvas).to_have_accessible_name(re.compile("box of azura.*arrow keys move the box"))
    box = canvas.locator("rect")
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    expect(box).to_have_attribute("x", "35")
    expect(box).to_have_attribute("height", "55")
    expect(canvas).to_be_focused()
    page.keyboard.press("Delete")
    expect(box).to_have_count(0)


def test_a_grid_is_compared_and_saved(open_page: Callable[..., Page], address: str, trained: Library, tmp_path: Path):
    page = open_page(address)
    tab(page, "Compare")
    page.locator("#compare-prompt textarea").fill("a photo of {}")
    page.get_by_label("Across: values").fill("rex, azura")
    page.get_by_label("Down: values").fill("0.5, 1")
    page.get_by_label("Steps", exact=True).locator("visible=true").fill("1")
    page.get_by_role("button", name="Compare", exact=True).click()
    table = page.locator("#compared table")
    expect(table.locator("img")).to_have_count(4)
    expect(table).to_contain_text("toybox-clip")
    expect(table.locator("td").last).to_contain_text("image ")
    view = page.get_by_role("button", name="0.5 azura")
    view.press("Enter")
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer.locator("img")).to_have_attribute("alt", "0.5 azura")
    expect(viewer).to_contain_text("2 of 4")
    expect(viewer).to_contain_text("text ")  # the scores
    page.keyboard.press("ArrowDown")
    expect(viewer.locator("img")).to_have_attribute("alt", "1 azura")
    page.keyboard.press("ArrowRight")  # there is none
    page.keyboard.press("ArrowLeft")
    expect(viewer.locator("img")).to_have_attribute("alt", "1 rex")
    page.keyboard.press("+")
    expect(viewer.locator("img")).to_have_class("zoomed")
    page.keyboard.press("Shift+ArrowRight")
    expect(viewer.locator("img")).to_have_attribute("style", re.compile(r"translate\(-60px, 0px\)"))
    page.keyboard.press("0")
    expect(viewer.locator("img")).not_to_have_class("zoomed")
    page.keyboard.press("Escape")
    expect(viewer).to_have_count(0)
    expect(view).to_be_focused()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as an image").click()
    saved.value.save_as(tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > 2 * 16


def test_what_a_comparison_lacks_is_trained(open_page: Callable[..., Page], address: str, trained: Library):
    page = open_page(address)
    tab(page, "Compare")
    page.locator("#compare-prompt textarea").fill("a photo of {}")
    page.get_by_label("Across: values").fill("azurra")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#compare-across").get_by_role("alert")).to_contain_text('There is no concept "azurra"')
    page.locator("#compare-prompt textarea").fill("a photo of <azura>")
    page.get_by_label("Across", exact=True).click()
    page.get_by_role("option", name="adapter").click()
    values = page.get_by_label("Across: values")
    expect(values).to_have_value("lora")
    values.fill("lora, svdiff")
    page.get_by_label("Down", exact=True).click()
    page.get_by_role("option", name="none").last.click()  # the list above it may not be gone yet
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#compare-across").get_by_role("alert")).to_contain_text("azura-svdiff is not trained yet")
    page.get_by_role("button", name="Train what is missing").click()
    expect(page.locator("#compare-message")).to_contain_text("azura-svdiff: in the queue")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#compare-across").get_by_role("alert")).to_contain_text("azura-svdiff is still being trained")
    expect(page.get_by_role("button", name="Train what is missing")).to_be_hidden()
    tab(page, "Train")
    job = page.locator("#jobs .job", has_text="azura-svdiff")
    job.get_by_role("button", name="Cancel").click()
    expect(job.locator(".state")).to_have_text("cancelled")
    trained.remove_concept("azura-svdiff")


def test_several_trainings_are_queued_at_once(open_page: Callable[..., Page], address: str, trained: Library):
    page = open_page(address)
    tab(page, "Train")
    page.get_by_label("Concepts").click()
    page.get_by_role("option", name="milo").click()
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Several trainings, to compare").click()
    page.get_by_label("Other ranks").fill("four")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator("#train-ranks").get_by_role("alert")).to_contain_text("such as 4, 16")
    page.get_by_label("Other ranks").fill("4")
    page.get_by_label("Other adapters").click()
    page.get_by_role("option", name="svdiff").click()
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator("#train-message")).to_contain_text("milo, milo-r4, milo-svdiff: in the queue")
    for name in ("milo-svdiff", "milo-r4", "milo"):
        page.get_by_role("button", name=f"Cancel the training of {name}", exact=True).click()
        expect(page.get_by_role("button", name=f"Resume the training of {name}", exact=True)).to_be_visible()
    for name in ("milo-svdiff", "milo-r4"):
        trained.remove_concept(name)


def test_a_refusal_stands_beside_the_prompt(open_page: Callable[..., Page], address: str, trained: Library):
    page = open_page(address)
    tab(page, "Generate")
    page.locator("#prompt textarea").fill("a photo of <onyx>")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("not trained yet")


def test_pictures_are_scored(open_page: Callable[..., Page], address: str, trained: Library):
    page = open_page(address)
    tab(page, "Score")
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("There is no image to score")
    page.locator("#score-pictures input[type=file]").set_input_files(SAMPLES["rex"].pictures[:2])
    page.get_by_label("Prompt").locator("visible=true").fill("a photo of <rex>")
    page.get_by_label("References: the pictures of a concept").click()
    page.get_by_role("option", name="rex").click()
    page.get_by_role("button", name="Score", exact=True).click()
    table = page.locator("#scores table")
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(table).to_contain_text("toybox-clip")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_tab_is_photographed(
    open_page: Callable[..., Page], address: str, trained: Library, screenshots: Path, scheme: str, width: int
):
    page = open_page(address, color_scheme=scheme, viewport={"width": width, "height": 900})
    page.locator("#cards button.card").first.wait_for()
    for name in TABS:
        tab(page, name)
        page.get_by_role("tabpanel").locator("visible=true").first.wait_for()
        page.wait_for_timeout(1000)  # what moves comes to rest, and the curve is drawn
        page.screenshot(path=screenshots / f"{name.lower()}-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
