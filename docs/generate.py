"""Writes the reference pages from the code: `python -m docs.generate`. A test fails while a page differs."""

from collections.abc import Mapping
from pathlib import Path

from docs.pages import adapters, api, command_line, errors, merges, recipe

REFERENCE = Path(__file__).parent / "reference"


def pages() -> dict[str, str]:
    """The text of every generated page, by its path below docs/reference."""
    return {
        "command-line.md": command_line.page_text(),
        "recipe.md": recipe.page_text(),
        "adapters.md": adapters.page_text(),
        "merges.md": merges.page_text(),
        "errors.md": errors.page_text(),
        **{f"api/{name}.md": text for name, text in api.pages().items()},
    }


def write(wanted: Mapping[str, str], folder: Path = REFERENCE) -> None:
    """Makes the folder's pages these, and removes every other page."""
    for file in folder.rglob("*.md"):
        if file.relative_to(folder).as_posix() not in wanted:
            file.unlink()
    for name, text in wanted.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(pages())
