"""Style and scripts of the page."""

from pathlib import Path


def asset(name: str) -> str:
    """The text of a file beside this one."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
