"""What a person does on the page, as several tests do it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from playwright.sync_api import Locator, Page, expect


def tab(page: Page, name: str) -> None:
    """Goes to a tab."""
    page.get_by_role("tab", name=name).click()


def add(page: Page, name: str, word: str, pictures: Sequence[Path]) -> None:
    """Adds a concept."""
    page.locator("#add-files input[type=file]").set_input_files(pictures)
    form = page.locator("#add-form")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Class word").fill(word)
    page.get_by_role("button", name=f"Add with {len(pictures)} pictures").click()
    expect(page.locator("#cards button.card", has_text=name)).to_be_visible()


def opened(page: Page, name: str) -> None:
    """Opens a concept's details."""
    page.locator("#cards button.card", has_text=name).first.click()
    expect(page.locator("#details h3")).to_have_text(name)
    expect(page.locator("#details .block.spot").first).to_be_visible()


def draw(canvas: Locator, *corners: tuple[float, float]) -> None:
    """Clicks points of the square, each given as shares from the top and from the left."""
    for top, left in corners:
        frame = canvas.bounding_box()
        assert frame
        canvas.click(position={"x": left * frame["width"], "y": top * frame["height"]})


def photograph(page: Page, folder: Path, name: str) -> None:
    """Keeps pictures of the page as it is now: light and wide, dark and narrow. Nothing may stand out at the side."""
    size = page.viewport_size
    assert size
    kinds: tuple[tuple[Literal["dark", "light"], int], ...] = (("dark", 390), ("light", 1280))
    for scheme, width in kinds:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": size["height"]})
        page.wait_for_timeout(700)  # what moves comes to rest, and curves are drawn anew
        page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size(size)
