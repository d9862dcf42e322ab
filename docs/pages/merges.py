"""The page of all merge methods, from their docstrings and parameters."""

import inspect
from collections.abc import Iterator
from typing import Any

from docs.pages.markdown import code, escaped, page, paragraphs, table, wrapped
from studio.composition import MERGES

UNMERGED = (
    "Only for `studio generate`: the concepts are not merged. Each layer adds the low-rank products of the concepts "
    "that act at an image position, and a concept with a region acts only inside it (`studio/serving`). It works with "
    "every adapter of weight matrices."
)
INTRODUCTION = """\
A merge method is applied to each adapted layer: λᵢ is the strength of concept i, and Δᵢ (out, in) is what it adds to
the frozen weight W (out, in). The names are the values of `--method` of `studio merge`, `studio generate` and `studio
export`. If no method is given, it is `spectral` where every concept's adapter is `spectral_additive`, else `fedavg`.
PEFT's `linear`, which adds the factors instead of the products, `dare_ties` and `magnitude_prune` have no counterpart.
The parameters are options of the commands, such as `--density`; in `studio export`, `--rank` is not that of `svd`."""


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
