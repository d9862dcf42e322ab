"""The page of all adapters: equation, source and options from their docstrings, counts from the model's shapes."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from typer.testing import CliRunner

from docs.pages.markdown import code, escaped, page, paragraphs, table, wrapped
from studio.adapters import ADAPTERS, Adapter
from studio.adapters.method_summaries import GOOD_FOR
from ui.cli.main import app

RANK = 8
ARCHITECTURES = {"toybox": "toybox", "sd15": "Stable Diffusion 1.5", "sdxl": "Stable Diffusion XL"}
INTRODUCTION = f"""\
W (out, in) is a frozen weight, x (…, in) its input, y = x Wᵀ + b, W = U S Vᵀ its singular value decomposition, and r
the rank. The counts are trained parameters at rank {RANK} where the method has one, as `studio adapters
--architecture NAME --rank {RANK}` prints them. The file is a concept's without its token."""


def page_text() -> str:
    """The whole page."""
    counts = {name: _counted(name) for name in ARCHITECTURES}
    return page(
        "Adapters",
        INTRODUCTION,
        "## Counts",
        table(
            ("method", *ARCHITECTURES.values(), "file of Stable Diffusion 1.5", "rank of the exact LoRA"),
            (_counts_row(name, counts) for name in ADAPTERS),
        ),
        *(block for name, adapter in ADAPTERS.items() for block in _adapter(name, adapter)),
    )


def _counted(architecture: str) -> dict[str, Any]:
    """What `studio adapters` counts, by method."""
    words = ["adapters", "--architecture", architecture, "--rank", str(RANK), "--json"]
    return json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)["adapters"]


def _counts_row(name: str, counts: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    numbers = [f"{each[name]['trained']:,}" if "trained" in each[name] else "" for each in counts.values()]
    row = counts["sd15"][name]
    rank = "none" if row["exact_rank"] is None else str(row["exact_rank"])
    return f"[{code(name)}](#{name.replace('_', '-')})", *numbers, f"{row['file_bytes'] / 1000:,.1f} kB", rank


def _adapter(name: str, adapter: type[Adapter]) -> Iterator[str]:
    first, *others = paragraphs(adapter.__doc__)
    what, _, equation = first.partition(": ")
    yield f"({name.replace('_', '-')})=\n## {name}"
    yield escaped(f"{GOOD_FOR[name]} {what}." if equation else f"{GOOD_FOR[name]} {first}")
    if equation:
        yield f"```text\n{wrapped(equation)}\n```"
    yield from (wrapped(escaped(paragraph)) for paragraph in others)
    rates = ", ".join(f"{part} {rate:g}" for part, rate in adapter.learning_rates.items())
    yield wrapped(escaped(f"File: `{adapter.__module__.replace('.', '/')}.py`. Default learning rates: {rates}."))
    if fields := [field for field in dataclasses.fields(adapter.Config) if field.init]:
        yield escaped(paragraphs(adapter.Config.__doc__)[0])
        yield table(("option", "type", "default"), map(_field, fields))


def _field(field: dataclasses.Field[Any]) -> tuple[str, str, str]:
    kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
    default = field.default
    return code(field.name), code(kind.replace("typing.", "")), "" if default is None else code(json.dumps(default))
