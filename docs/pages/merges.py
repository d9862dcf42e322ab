"""The page of all merge methods, from their docstrings and parameters."""

import inspect
from collections.abc import Iterator
from typing import Any

from docs.pages.markdown import code, escaped, page, paragraphs, table, wrapped
from studio.composition import MERGES

UNMERGED = (
    "`unmerged`, a method of `studio generate` alone, merges nothing: each layer adds the low-rank products of the "
    "concepts that act at a position (`studio/serving`), a concept with a region only inside it. It takes every method "
    "that changes matrices."
)
INTRODUCTION = """\
λᵢ is the strength of concept i and Δᵢ (out, in) what it adds to a frozen weight W (out, in). The names are the values
of `studio merge --method` and `studio generate --method`."""


def page_text() -> str:
    """The whole page."""
    return page(
        "Merges",
        INTRODUCTION,
        *(block for name, merge in MERGES.items() for block in _merge(name, merge)),
        "## unmerged",
        wrapped(UNMERGED),
    )


def _merge(name: str, merge: Any) -> Iterator[str]:
    first, *others = paragraphs(merge.__doc__)
    yield f"## {name}"
    yield from (wrapped(escaped(paragraph)) for paragraph in (first, *others))
    yield f"File: `{merge.__module__.replace('.', '/')}.py`."
    parameters = [p for p in inspect.signature(merge).parameters.values() if p.default is not inspect.Parameter.empty]
    if parameters:
        rows = [(code(p.name), "" if p.default is None else code(str(p.default))) for p in parameters]
        yield table(("parameter", "default"), rows)
