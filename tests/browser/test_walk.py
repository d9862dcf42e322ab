"""The whole way through the page: from pictures to a file for other tools."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from concepts import Library
from concepts.samples import SAMPLES
from tests.browser.steps import add, draw, opened, photograph, tab
from ui.services.gallery import latest, settings_of

LONG = 240_000
"""Milliseconds for a worker to start and to train, on a machine that is busy."""
SMALL = {
    "steps": "40",
    "batch_size": "2",
    "num_class_images": "2",
    "validation_steps": "10",
    "num_validation_images": "1",
}


def train(page: Page, name: str) -> None:
    """Queues a small training with a method that the page explains."""
    tab(page, "Train")
    page.get_by_label("Concepts").click()
    page.get_by_role("option", name=name).click()
    page.keyboard.press("Tab")
    page.get_by_label("Adapter").click()
    page.get_by_role("option", name="svdiff").click()
    expect(page.locator("#train-purpose")).to_contain_text("singular values only")
    page.get_by_label("Rank or budget").fill("")
    expect(page.locator("#cost").get_by_text("trained parameters, a file of")).to_be_visible()
    page.get_by_role("button", name="Every option").click()
    for option, value in SMALL.items():
        page.locator(f"#train-{option}").locator("input, textarea").fill(value)
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator("#train-message")).to_contain_text(f"{name}: in the queue")


def see_it_learned(page: Page, name: str, reload: Callable[[Page], None]) -> None:
    """Watches the curve, loads the page anew in the middle, and finds the training again."""
    job = page.locator("#jobs .job", has_text=name)
    expect(job.locator(".state")).to_have_text(re.compile(r"step \d+ of 40, loss"), timeout=LONG)
    before = page.locator("#curve").screenshot()
    reload(page)
    tab(page, "Train")
    expect(job.locator(".state")).to_have_text(re.compile("step|previews|done"), timeout=LONG)
    expect(page.locator("#previews li").first).to_contain_text("image alignment", timeout=LONG)
    expect(page.locator("#previews img").first).to_be_visible()
    expect(page.locator("#alignment")).to_be_visible()
    expect(job.locator(".state")).to_have_text("done", timeout=LONG)
    expect(page.locator("#outcome")).to_contain_text(f"{name} is trained")
    assert page.locator("#curve").screenshot() != before


def generate_both(page: Page, one: str, other: str) -> None:
    """Generates two concepts, each in its half."""
    tab(page, "Generate")
    page.locator("#prompt textarea").fill(f"a photo of <{one}> and <{other}>")
    page.get_by_role("button", name="Regions").click()
    canvas = page.locator("#boxes svg")
    draw(canvas, (0.02, 0.02), (0.9, 0.45))
    expect(canvas.locator("rect")).to_have_count(1)
    page.locator("#boxes").get_by_role("button", name=other).click()
    draw(canvas, (0.02, 0.52), (0.9, 0.98))
    expect(canvas.locator("rect")).to_have_count(2)
    page.get_by_role("button", name="More settings").click()
    page.get_by_label("number input for steps").fill("2")
    page.get_by_label("Images", exact=True).locator("visible=true").fill("1")
    pictures = page.locator("#generated .grid-container button img")
    before = pictures.count()
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(pictures).to_have_count(before + 1)


def score(page: Page, name: str, picture: Path) -> None:
    """Scores a picture against a concept's own."""
    tab(page, "Score")
    page.locator("#score-pictures input[type=file]").set_input_files(picture)
    page.locator("#score-prompt textarea").fill(f"a photo of <{name}>")
    page.get_by_label("References: the pictures of a concept").click()
    page.get_by_role("option", name=name, exact=True).locator("visible=true").click()
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.locator("#scores tbody tr")).to_have_count(1)


def compare(page: Page, one: str, other: str) -> None:
    """Compares two concepts at one strength."""
    tab(page, "Compare")
    page.locator("#compare-prompt textarea").fill("a photo of {}")
    page.get_by_label("Across: values").fill(f"{one}, {other}")
    page.get_by_label("Down: values").fill("1")
    page.locator("#compare-num_inference_steps input").fill("1")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#compared table img")).to_have_count(2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_way(
    open_page: Callable[..., Page],
    reload: Callable[[Page], None],
    address: str,
    trained: Library,
    screenshots: Path,
    tmp_path: Path,
):
    page = open_page(address)
    add(page, "brun", "bear", SAMPLES["bruno"].pictures[:3])
    train(page, "brun")
    see_it_learned(page, "brun", reload)
    photograph(page, screenshots, "trained")
    result = trained.concept("brun").result
    assert result
    assert (result.adapter, len(result.details["losses"])) == ("svdiff", 40)
    assert [step for step, _ in result.details["alignments"]] == [10, 20, 30, 40]
    generate_both(page, "brun", "rex")
    photograph(page, screenshots, "generated")
    assert settings_of(latest(trained.local)[0])[0].prompt == "a photo of <brun> and <rex>"
    score(page, "brun", SAMPLES["bruno"].pictures[4])
    photograph(page, screenshots, "scored")
    compare(page, "brun", "rex")
    photograph(page, screenshots, "compared")
    tab(page, "Concepts")
    opened(page, "brun")
    page.get_by_role("button", name="Export").click()
    page.get_by_role("button", name="Make the files").click()
    page.locator("#exported a").first.wait_for()
    photograph(page, screenshots, "opened")
    with page.expect_download() as saved:
        page.locator("#exported a").first.click()
    saved.value.save_as(tmp_path / "brun.safetensors")
    assert (tmp_path / "brun.safetensors").stat().st_size > 10_000
