"""The pages of the Python API: a page for each package, whose modules Sphinx documents from their docstrings."""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

from docs.pages import LAYERS, ROOT
from docs.pages.markdown import code, escaped, page, paragraphs, table

_LEFT_OUT = ("concepts.migrations", "ui.cli", "ui.web")
INTRODUCTION = """\
`ui` stands on `training`, which stands on `studio`, which stands on `concepts`. The names below are what each package
exports; the pages that follow document every module."""


def pages() -> dict[str, str]:
    """Every page by its name: the overview, and the packages'."""
    packages = [package for layer in LAYERS for package in _packages(ROOT / layer)]
    return {"index": _overview(packages), **{package: _package(package) for package in packages}}


def _packages(folder: Path) -> Iterator[str]:
    for file in sorted(folder.rglob("__init__.py")):
        name = ".".join(file.parent.relative_to(ROOT).parts)
        if not name.startswith(_LEFT_OUT):
            yield name


def _overview(packages: list[str]) -> str:
    entries = "\n".join(packages)
    return page(
        "Python API",
        INTRODUCTION,
        *(block for layer in LAYERS for block in _exported(layer)),
        f"```{{toctree}}\n:maxdepth: 1\n:caption: Packages\n\n{entries}\n```",
    )


def _exported(layer: str) -> Iterator[str]:
    module = importlib.import_module(layer)
    if names := getattr(module, "__all__", ()):
        yield f"## {layer}"
        yield escaped(paragraphs(module.__doc__)[0])
        rows = ((_link(name, getattr(module, name)), _summary(getattr(module, name))) for name in sorted(names))
        yield table(("name", "meaning"), rows)


def _link(name: str, value: object) -> str:
    place = getattr(value, "__module__", None)
    return f"{{py:obj}}`{name} <{place}.{name}>`" if place else code(name)


def _summary(value: object) -> str:
    documented = inspect.isclass(value) or inspect.isroutine(value)
    return escaped(paragraphs(value.__doc__)[0]) if documented and value.__doc__ else ""


def _package(package: str) -> str:
    folder = ROOT.joinpath(*package.split("."))
    files = (file.stem for file in sorted(folder.glob("*.py")) if not file.stem.startswith("__"))
    modules = [package, *(f"{package}.{stem}" for stem in files)]
    return page(package, "", *(f"```{{eval-rst}}\n.. automodule:: {module}\n```" for module in modules))
