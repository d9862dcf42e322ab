"""The layers: ui over training over studio over concepts. Imports go down only, and no two files import each other."""

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("concepts", "studio", "training", "ui")
HEAVY = {"torch", "diffusers", "transformers", "open_clip"}
MOST_FILES = 20
INTERFACES = {"studio/adapters", "studio/composition", "studio/formats", "ui/cli", "ui/web/tabs"}
"""Folders whose files implement one interface; they may have more."""


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(file): file for layer in LAYERS for file in sorted((ROOT / layer).rglob("*.py"))}


def imported(source: str) -> Iterator[str]:
    """What a module imports, wherever in it the import stands; `from a import b` is both a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(source: str) -> set[str]:
    return {name.partition(".")[0] for name in imported(source)}


def forbidden(layer: str, source: str) -> set[str]:
    """The packages that a module of this layer imports although they lie above it."""
    return packages(source) & {*LAYERS[LAYERS.index(layer) + 1 :], "tests", "benchmarks"}


def files_imported(source: str, modules: Mapping[str, object]) -> set[str]:
    """The modules among `modules` that the source imports, a submodule before the package that it is imported from."""
    found = set()
    for name in imported(source):
        found |= {name if name in modules else name.rpartition(".")[0]} & modules.keys()
    return found


def circle(sources: Mapping[str, str]) -> list[str] | None:
    """Modules that import one another in a circle, if there are such."""
    graph = {name: files_imported(source, sources) - {name} for name, source in sources.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_down_only(layer: str):
    files = sorted((ROOT / layer).rglob("*.py"))
    assert len(files) > 5
    wrong = {module_name(file): names for file in files if (names := forbidden(layer, file.read_text()))}
    assert not wrong


def test_no_files_import_one_another():
    assert circle({name: file.read_text() for name, file in MODULES.items()}) is None


def test_the_library_needs_no_model_code():
    for name, file in MODULES.items():
        assert not name.startswith("concepts") or not HEAVY & packages(file.read_text()), name


def test_no_folder_has_too_many_files():
    folders = {file.parent for file in MODULES.values()}
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) for folder in folders}
    assert not {name for name, count in counts.items() if count > MOST_FILES and name not in INTERFACES}


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("concepts", "import os, studio.layers as t"),
        ("studio", "from training.engine.trainer import train_concept"),
        ("training", "def late():\n    from ui import cli"),
        ("training", "if True:\n    import ui.cli.main"),
        ("ui", "from tests.tiny_models import SIDE"),
    ],
)
def test_the_rule_can_fail(layer: str, source: str):
    assert forbidden(layer, source)


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("ui", "from training.engine.trainer import x\nimport studio, concepts"),
        ("training", "from studio.models.token_embeddings import add_token"),
        ("studio", "from concepts import errors\nfrom . import training\nimport studious"),
    ],
)
def test_the_rule_allows_what_the_layers_allow(layer: str, source: str):
    assert not forbidden(layer, source)


def test_a_circle_is_found():
    assert circle({"a": "from b import x", "b": "def late():\n    import c", "c": "from a import y"})
    assert circle({"a": "import b", "b": "import c", "c": "import os"}) is None
