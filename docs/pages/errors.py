"""The page of all errors: the classes, and the messages that the code raises with them."""

import ast
from collections.abc import Iterator
from pathlib import Path

from docs.pages import LAYERS, ROOT
from docs.pages.markdown import code, escaped, page, table

ROOT_ERROR = "StudioError"
INTRODUCTION = """\
Invalid input raises `StudioError` or a subclass. The message says what is wrong and what to do. The command line
prints it and exits with status 2, the web UI shows it beside the field, and `gradio_client` raises it as `AppError`.
An invalid option of `Recipe`, `GenerationRequest` or `SamplingSettings` raises pydantic's `ValidationError`, which the
command line and the web UI show in the same way. Invalid input changes nothing; a training can end with
`DivergenceError` or `LeaseLostError` after it began."""


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
        "## Messages",
        "The messages in the code, with the name of a value in braces.",
        *(block for layer in LAYERS for block in _messages(layer, trees, set(classes))),
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


def _messages(layer: str, trees: dict[Path, ast.Module], names: set[str]) -> Iterator[str]:
    rows = sorted({
        (message, _place(file))
        for file, tree in trees.items() if file.relative_to(ROOT).parts[0] == layer
        for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) in names
        for message in map(_message, node.args) if " " in message
    })  # fmt: skip
    if rows:
        yield f"### {layer}"
        yield table(("message", "file"), ((escaped(message), code(place)) for message, place in rows))


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _message(node: ast.expr) -> str:
    """The text of a literal, with the name of each value that it fills in; empty for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_part, node.values))
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _part(node: ast.expr) -> str:
    """A part of an f-string: its text, or {name} for a value, whose name is the last one in its expression."""
    if not isinstance(node, ast.FormattedValue):
        return str(ast.literal_eval(node))
    return f"{{{_value_name(node.value)}}}"


def _value_name(node: ast.expr) -> str:
    """The name of a value: a variable, an attribute, a key, or what is counted, joined or converted."""
    match node:
        case ast.Name(name):
            return name.strip("_").lower()
        case ast.Attribute(ast.Name("self" | "config" | "document"), name):
            return name.strip("_")
        case ast.Attribute(inner, "name" | "__name__"):
            return _value_name(inner)
        case ast.Attribute(_, name) | ast.Subscript(_, ast.Constant(str(name))):
            return name
        case ast.Call(ast.Name("len"), [inner, *_]):
            return f"number of {_value_name(inner)}"
        case ast.Call(ast.Name("map"), [_, inner]) | ast.Call(_, [inner, *_]) | ast.Call(ast.Attribute(inner), []):
            return _value_name(inner)
        case ast.Subscript(inner) | ast.BoolOp(values=[inner, *_]) | ast.BinOp(inner) | ast.Starred(inner):
            return _value_name(inner)
        case ast.GeneratorExp(inner) | ast.Tuple([inner, *_]):
            return _value_name(inner)
        case ast.Constant(str(name)):
            return name
    return "…"


def _place(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()
