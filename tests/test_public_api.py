"""The public API: what the packages export, and the ten lines of the documentation."""

import ast
import importlib
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import studio
import training
from concepts import Library
from concepts.lazy_imports import lazy_attributes
from concepts.samples import SAMPLES
from studio.models.base_model import load_base
from training.config.recipe import Recipe

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples/python_api.py"
PACKAGES = ("concepts", "studio", "training")


def type_checked(package: str) -> dict[str, str]:
    """What a package's `if TYPE_CHECKING` imports for type checkers: each name with its module."""
    (block,) = (
        node
        for node in ast.parse((ROOT / package / "__init__.py").read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_what_type_checkers_see(package: str):
    module, seen = importlib.import_module(package), type_checked(package)
    assert module.__doc__
    assert {*module.__all__} - {"__version__"} == seen.keys()
    assert {*module.__all__} <= {*dir(module)}
    for name, source in seen.items():
        assert getattr(module, name) is getattr(importlib.import_module(source), name)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_tell_type_checkers_that_they_are_typed(package: str):
    assert (ROOT / package / "py.typed").is_file()


def test_the_readme_has_the_ten_lines():
    assert f"```python\n{EXAMPLE.read_text()}```" in (ROOT / "README.md").read_text()


def test_other_names_are_refused_as_python_does():
    assert not hasattr(studio, "no_such_name")
    get_attribute, _ = lazy_attributes("studio", {"studio.bundled": ("TOYBOX",)})
    with pytest.raises(AttributeError, match="module 'studio' has no attribute 'TOYBOXES'"):
        get_attribute("TOYBOXES")


def test_torch_is_imported_only_when_needed():
    code = (
        "import sys, concepts, studio, training; concepts.Library, training.Recipe, studio.__version__;"
        "assert 'torch' not in sys.modules; studio.TrainedConcept; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_ten_lines_run(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    text = EXAMPLE.read_text()
    assert len([line for line in text.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    for name, sample in {"rex": "biscuit", "milo": "milo"}.items():
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for picture in SAMPLES[sample].pictures[:2]:
            (tmp_path / "pictures" / name / picture.name).symlink_to(picture)
    monkeypatch.setattr(studio, "load_base", lambda _: load_base(str(tiny_folder), device="cpu"))
    monkeypatch.setattr(
        studio, "generate", partial(studio.generate, settings=studio.SamplingSettings(num_inference_steps=2))
    )
    monkeypatch.setattr(training, "Recipe", short_recipe)

    exec(compile(text, EXAMPLE, "exec"), {})

    for name in ("rex", "milo"):
        result = Library("library").concept(name).result
        assert result
        assert result.details["recipe"]["steps"] == 2
    assert capsys.readouterr().out.startswith("tensor([")
    assert {file.name for file in tmp_path.glob("*.safetensors")} == {
        "rex-and-milo.safetensors", "rex-and-milo.rex.tokens.safetensors", "rex-and-milo.milo.tokens.safetensors",
    }  # fmt: skip


def short_recipe(**options: Any) -> Recipe:
    return Recipe(**{**options, "steps": 2, "rank": 4, "num_class_images": 2})
