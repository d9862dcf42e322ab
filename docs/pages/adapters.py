"""The page of all adapters: equation, source and options from their docstrings, counts from the model's shapes."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from typer.testing import CliRunner

from docs.pages.adapter_options import meaning
from docs.pages.markdown import code, escaped, page, paragraphs, table, type_name, wrapped
from studio.adapters import ADAPTERS, Adapter
from studio.adapters.method_summaries import GOOD_FOR
from ui.cli.main import app

RANK = 8
ARCHITECTURES = {"toybox": "toybox", "sd15": "Stable Diffusion 1.5", "sdxl": "Stable Diffusion XL"}
INTRODUCTION = """\
W (out, in) is the frozen weight of an adapted layer, x (…, in) its input, y = x Wᵀ + b, W = U S Vᵀ its singular value
decomposition, and r the rank. Singular column i of W means its i-th singular triplet: column i of U, singular value i
and column i of V. The default learning rates were tuned on toybox and are too high for Stable Diffusion: start there
with 1e-4 for `unet_lr`, 1e-5 for `text_encoder_lr` and 1e-3 for `token_lr`."""
COUNTS = f"""\
The numbers are trained parameters at rank {RANK}, for adapters that have a rank, as `studio adapters --architecture
NAME --rank {RANK}` prints them. File sizes are those of a concept of Stable Diffusion 1.5 without its token. An adapter
with an equal LoRA can be exported exactly as a LoRA of that rank; one that says "with biases" only in the diffusers
and PEFT formats, since kohya's format has no biases. The others are approximated; `--format lycoris` stores every
change of matrices, norms and biases exactly, `ada_link` needs `--format full`, and `prefix_tuning` has no export.
`vera` at its default rank is approximated too: the rank is higher than that of the layers. A method with 0 trains the
token alone. LoCon is `lora` with convolutions among its `target_modules`."""
LAYERS = {
    ("attention",): "`target_modules`",
    ("attention_kv", "feed_forward_out"): "attention keys and values, last feed-forward layer",
    ("bias",): "all with a bias",
    ("norm",): "layer and group norms",
    ("vocabulary",): "token embeddings",
    ("cross_attention_kv",): "keys and values of cross-attention",
    (): "none; the token alone",
}
"""What each selection of layers is called in the table."""


def page_text() -> str:
    """The whole page."""
    counts = {name: _counted(name) for name in ARCHITECTURES}
    return page(
        "Adapters",
        INTRODUCTION,
        "## Counts",
        wrapped(COUNTS),
        table(
            (
                "adapter",
                *ARCHITECTURES.values(),
                "file size",
                "rank of an equal LoRA",
                "default rank",
                "adapted layers",
            ),
            (_counts_row(name, counts) for name in ADAPTERS),
        ),
        *(block for name, adapter in ADAPTERS.items() for block in _adapter(name, adapter)),
    )


def _counted(architecture: str) -> dict[str, Any]:
    """What `studio adapters` counts, by adapter."""
    words = ["adapters", "--architecture", architecture, "--rank", str(RANK), "--json"]
    return json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)["adapters"]


def _counts_row(name: str, counts: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    numbers = [f"{each[name]['trained']:,}" if "trained" in each[name] else "" for each in counts.values()]
    row = counts["sd15"][name]
    adapter = ADAPTERS[name]
    biases = " with biases" if adapter.bias_delta is not Adapter.bias_delta else ""
    rank = "none" if row["exact_rank"] is None else f"{row['exact_rank']}{biases}"
    default, layers = adapter.Config(), LAYERS[adapter.kinds(adapter.Config())]
    link, size = f"[{code(name)}](#{name.replace('_', '-')})", f"{row['file_bytes'] / 1e6:,.2f} MB"
    return link, *numbers, size, rank, str(getattr(default, "rank", "")), layers


def _adapter(name: str, adapter: type[Adapter]) -> Iterator[str]:
    first, *others = paragraphs(adapter.__doc__)
    equation = first.partition(": ")[2]
    yield f"({name.replace('_', '-')})=\n## {name}"
    yield escaped(GOOD_FOR[name] if equation else first)
    if equation:
        yield f"```text\n{wrapped(equation)}\n```"
    yield from (wrapped(escaped(paragraph)) for paragraph in others)
    rates = ", ".join(f"{part} {rate:g}" for part, rate in adapter.learning_rates.items()) or "the token's alone"
    yield wrapped(escaped(f"File: `{adapter.__module__.replace('.', '/')}.py`. Default learning rates: {rates}."))
    if fields := [field for field in dataclasses.fields(adapter.Config) if field.name != "first_column"]:
        yield table(("option", "value", "default", "meaning"), (_field(name, field) for field in fields))
    if adapter.owns_block:
        yield "`first_column` is not an option of the recipe: the library chooses it, or `studio train --column` does."


def _field(adapter: str, field: dataclasses.Field[Any]) -> tuple[str, str, str, str]:
    default = "" if field.default is None else code(json.dumps(field.default))
    return code(field.name), escaped(type_name(field.type)), default, escaped(meaning(adapter, field.name))
