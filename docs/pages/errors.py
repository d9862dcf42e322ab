"""The page of all errors: the classes, and every sentence that the code raises with one of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

from docs.pages import LAYERS, ROOT
from docs.pages.markdown import code, escaped, page, table

ROOT_ERROR = "StudioError"
INTRODUCTION = """\
Bad input raises `StudioError` or a subclass, before anything is changed. Its message is one sentence that says what
to do. The command line prints it and exits with status 2; the page shows it beside the field; `gradio_client` raises
it as `AppError`."""


def page_text() -> str:
    """The whole page."""
    trees = {
        file: ast.parse(file.read_text("utf-8")) for layer in LAYERS for file in sorted((ROOT / layer).rglob("*.py"))
    }
    classes = _classes(trees)
    return page(
        "Errors",
        INTRODUCTION,
        "## Classes",
        table(("class", "base", "module", "meaning"), (_class_row(*each) for each in classes.values())),
        "## Sentences",
        "Every sentence in the code, with `{…}` for a value.",
        *(block for layer in LAYERS for block in _sentences(layer, trees, set(classes))),
    )


def _classes(trees: dict[Path, ast.Module]) -> dict[str, tuple[ast.ClassDef, str, Path]]:
    """StudioError and what is derived from it, each with its base and file."""
    every = [(node, file) for file, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    bases = {node.name: [base.id for base in node.bases if isinstance(base, ast.Name)] for node, _ in every}
    found, grew = {ROOT_ERROR}, True
    while grew:
        more = {name for name, above in bases.items() if found & {*above}} - found
        found, grew = found | more, bool(more)
    return {node.name: (node, bases[node.name][0], file) for node, file in every if node.name in found}


def _class_row(node: ast.ClassDef, base: str, file: Path) -> tuple[str, ...]:
    summary = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    return code(node.name), code(base), code(_place(file)), escaped(summary)


def _sentences(layer: str, trees: dict[Path, ast.Module], names: set[str]) -> Iterator[str]:
    rows = sorted({
        (sentence, _place(file))
        for file, tree in trees.items() if file.relative_to(ROOT).parts[0] == layer
        for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) in names
        for sentence in map(_sentence, node.args) if " " in sentence
    })  # fmt: skip
    if rows:
        yield f"### {layer}"
        yield table(("sentence", "file"), ((escaped(sentence), code(place)) for sentence, place in rows))


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _sentence(node: ast.expr) -> str:
    """The text of a literal, with {…} for what it fills in; empty for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{…}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _place(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()
