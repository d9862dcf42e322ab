"""The import rule of the design: ui -> training -> {studio, concepts}, and those two know nobody."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "studio": set(),
    "concepts": set(),
    "training": {"studio", "concepts"},
    "ui": {"training", "studio", "concepts"},
}
HEAVY = {"torch", "diffusers", "transformers", "open_clip"}


def imported(source: str) -> Iterator[str]:
    """The top-level packages that a module imports, wherever in it the import stands; relative ones are its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def forbidden(package: str, source: str) -> set[str]:
    """The sibling packages that a module of `package` imports against the rule."""
    return set(imported(source)) & ({*MAY_IMPORT, "tests", "benchmarks"} - MAY_IMPORT[package] - {package})


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_down_only(package: str):
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 5
    wrong = {str(file.relative_to(ROOT)): names for file in files if (names := forbidden(package, file.read_text()))}
    assert not wrong


def test_the_library_needs_no_model_code():
    for file in (ROOT / "concepts").rglob("*.py"):
        assert not HEAVY & set(imported(file.read_text())), file


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("studio", "import concepts"),
        ("studio", "from training.loop import train_concept"),
        ("concepts", "import os, studio.tokens as t"),
        ("training", "def late():\n    from ui import cli"),
        ("training", "if True:\n    import ui.cli"),
        ("ui", "from tests.conftest import SIDE"),
    ],
)
def test_the_rule_can_fail(package: str, source: str):
    assert forbidden(package, source)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("ui", "from training.loop import x\nimport studio, concepts"),
        ("training", "from studio.tokens import add_token"),
        ("studio", "from studio import tokens\nfrom . import concepts\nimport studious"),
    ],
)
def test_the_rule_allows_what_the_design_allows(package: str, source: str):
    assert not forbidden(package, source)
