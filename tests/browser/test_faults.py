"""Faults that people met on the page: what was written and lost, shown wrongly, or not heard."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from concepts import Library
from concepts.samples import SAMPLES
from studio.adapters.concept_file import to_bytes
from studio.models.base_model import load_base
from tests.browser.steps import opened, tab
from ui.services.gallery import latest, settings_of


def images(page: Page) -> Locator:
    return page.locator("#generated .grid-container button img")


def generate(page: Page, prompt: str, number: int, steps: int = 1) -> None:
    """Fills the form and presses the button."""
    tab(page, "Generate")
    page.locator("#prompt textarea").fill(prompt)
    page.get_by_label("Images", exact=True).locator("visible=true").fill(str(number))
    page.get_by_role("button", name="More settings").click()
    page.get_by_label("number input for steps").fill(str(steps))
    page.get_by_role("button", name="Generate", exact=True).click()


def test_a_caption_is_kept_when_another_picture_or_concept_is_opened(
    open_page: Callable[..., Page], address: str, trained: Library
):
    page = open_page(address)
    opened(page, "azura")
    page.get_by_role("button", name="Caption and mask").click()
    caption, pictures = page.locator("#caption textarea"), page.locator("#pictures button")
    expect(pictures.nth(1)).to_be_visible()  # then the form shows this concept, and no later answer changes it
    caption.fill("a vase on a table")
    pictures.nth(1).click()
    expect(page.locator("#annotate").get_by_text("Saved for picture 1.")).to_be_visible()
    expect(caption).to_have_value("")
    caption.fill("a vase in the snow")
    opened(page, "rex")
    expect(caption).to_have_value("")
    pictures.nth(0).click()
    assert trained.concept("azura").captions[:2] == ("a vase on a table", "a vase in the snow")
    assert not any(trained.concept("rex").captions)
    for number in range(2):
        trained.annotations.set_caption("azura", number, "")


def test_the_same_error_is_told_again_and_goes_when_something_new_is_written(
    open_page: Callable[..., Page], address: str, trained: Library
):
    page = open_page(address)
    tab(page, "Train")
    size = page.get_by_label("Rank or budget")
    size.fill("eight")
    alert = page.locator("#train-rank").get_by_role("alert")
    expect(alert).to_be_visible()
    size.fill("eigh")
    size.press("t")
    page.get_by_label("Concepts").click()
    page.get_by_role("option", name="rex", exact=True).click()
    page.keyboard.press("Tab")
    for _ in range(2):
        page.get_by_role("button", name="Train", exact=True).click()
        expect(alert).to_contain_text("is not a number")
        size.press("End")
        size.press("Backspace")
        size.press("t")
    tab(page, "Concepts")
    form = page.locator("#add-form")
    form.get_by_role("button", name="Add concept").click()
    expect(form.get_by_role("alert").first).to_be_visible()


def test_a_concept_is_found_by_any_part_of_its_name(open_page: Callable[..., Page], address: str, trained: Library):
    page = open_page(address)
    cards, find = page.locator("#cards button.card"), page.locator("#find").locator("input, textarea")
    expect(cards.filter(has_text="rex")).to_have_count(1)
    find.press_sequentially("zur")
    expect(cards.filter(has_text="azura")).to_have_count(1)
    expect(cards.filter(has_text="rex")).to_have_count(0)
    for _ in range(3):
        find.press("Backspace")
    expect(cards.filter(has_text="rex")).to_have_count(1)
    find.fill("ony")  # as a paste does: one event for all of it
    expect(cards.filter(has_text="onyx")).to_have_count(1)
    expect(cards.filter(has_text="rex")).to_have_count(0)


def test_a_reload_keeps_tab_theme_prompt_and_forms(
    open_page: Callable[..., Page], address: str, trained: Library, reload: Callable[[Page], None]
):
    page = open_page(address)
    tab(page, "Train")
    page.get_by_label("Rank or budget").fill("4")
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = page.evaluate("document.body.classList.contains('dark')")
    tab(page, "Generate")
    page.locator("#prompt textarea").fill("a photo of <rex> at night")
    page.get_by_label("Random seed").uncheck()
    page.locator("#generate-seed input").fill("77")
    page.locator("#generate-seed input").press("Tab")
    page.wait_for_timeout(500)  # the browser stores it without telling when
    reload(page)
    expect(page.get_by_role("tab", name="Generate")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#prompt textarea")).to_have_value("a photo of <rex> at night")
    expect(page.locator(".prompt mark")).to_have_text(["<rex>"])
    expect(page.locator("#generate-seed input")).to_have_value("77")
    expect(page.get_by_label("Random seed")).not_to_be_checked()
    assert page.evaluate("document.body.classList.contains('dark')") == dark
    tab(page, "Train")
    expect(page.get_by_label("Rank or budget")).to_have_value("4")


def test_a_box_is_drawn_by_dragging(open_page: Callable[..., Page], address: str, trained: Library):
    page = open_page(address)
    tab(page, "Generate")
    page.locator("#prompt textarea").fill("a photo of <rex>")
    page.get_by_role("button", name="Regions").click()
    canvas = page.locator("#boxes svg")
    canvas.scroll_into_view_if_needed()
    frame = canvas.bounding_box()
    assert frame
    page.mouse.move(frame["x"] + 0.1 * frame["width"], frame["y"] + 0.2 * frame["height"])
    page.mouse.down()
    page.mouse.move(frame["x"] + 0.6 * frame["width"], frame["y"] + 0.9 * frame["height"], steps=4)
    page.mouse.up()
    box = canvas.locator("rect")
    expect(box).to_have_count(1)
    expect(canvas.locator("circle")).to_have_count(0)
    values = [float(box.get_attribute(name) or "nan") for name in ("x", "y", "width", "height")]
    assert values == pytest.approx([10, 20, 50, 70], abs=1.5)


def test_each_press_has_another_seed_and_earlier_pictures_stay(
    open_page: Callable[..., Page], address: str, trained: Library
):
    before = len(latest(trained.local))
    page = open_page(address)
    tab(page, "Generate")
    expect(images(page)).to_have_count(before)
    generate(page, "a photo of a dog", 1)
    expect(images(page)).to_have_count(before + 1)
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(images(page)).to_have_count(before + 2)
    first, second = (settings_of(path)[0].seed for path in latest(trained.local)[:2])
    assert first != second
    expect(page.locator("#generate-seed input")).to_have_value(str(first))


def test_stop_shows_every_picture_that_was_kept(open_page: Callable[..., Page], address: str, trained: Library):
    before = len(latest(trained.local))
    page = open_page(address)
    tab(page, "Generate")
    expect(images(page)).to_have_count(before)
    generate(page, "a photo of a cat", 12, steps=60)
    expect(images(page)).not_to_have_count(before)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_timeout(3000)  # one more may be under way
    files = len(latest(trained.local))
    assert before < files < before + 12
    expect(images(page)).to_have_count(files)


def test_a_name_that_was_trained_meanwhile_is_known(
    open_page: Callable[..., Page], address: str, trained: Library, tiny_folder: Path, make_concept
):
    trained.add_concept("pebble", "vase", SAMPLES["onyx"].pictures[:1])
    page = open_page(address)
    tab(page, "Generate")
    page.locator("#prompt textarea").fill("a photo of <pebble>")
    mark = page.locator(".prompt mark")
    expect(mark).to_have_class("untrained")
    concept = make_concept(load_base(str(tiny_folder), device="cpu"), "pebble", "lora", 3)
    details = {"base": concept.base, "adapter": "lora", "rank": 4, "parameters": 1000, "scores": {}}
    trained.store_result("pebble", to_bytes(concept), details)
    tab(page, "Concepts")
    tab(page, "Generate")
    expect(mark).to_have_class("known")
    trained.remove_concept("pebble")


def test_all_of_an_accordions_head_can_be_clicked(open_page: Callable[..., Page], address: str, trained: Library):
    page = open_page(address)
    tab(page, "Generate")
    head = page.locator("#places > button")
    frame = head.locator("xpath=..").bounding_box()
    assert frame
    for share in (0.02, 0.5, 0.98):
        head.wait_for()
        page.mouse.click(frame["x"] + share * frame["width"], frame["y"] + 16)
        expect(page.locator("#boxes")).to_be_visible()
        page.mouse.click(frame["x"] + share * frame["width"], frame["y"] + 16)
        expect(page.locator("#boxes")).to_be_hidden()
