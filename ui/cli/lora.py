"""`studio lora`: extracts a LoRA from two checkpoints, and changes the rank of a LoRA file."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from concepts.errors import StudioError
from ui.cli.options import JsonOption, notify, progress_bar, report, writable

if TYPE_CHECKING:
    from studio.formats.extracting import Extracted
    from studio.formats.resizing import Resized

app = typer.Typer(
    help="Extract a LoRA from two checkpoints, or change the rank of a LoRA file. Neither needs a library.",
    no_args_is_help=True,
)
RankOption = Annotated[
    int | None,
    typer.Option("--rank", min=1, help="The rank of each layer; with --dynamic-method the largest, any if unset."),
]
ConvRankOption = Annotated[
    int | None,
    typer.Option(min=1, help="The rank of convolutions with a kernel larger than 1x1; that of --rank if unset."),
]
DynamicMethodOption = Annotated[
    str | None,
    typer.Option(
        help="Choose each layer's rank by its singular values, as sd-scripts: sv_fro, sv_ratio or sv_cumulative."
    ),
]
DynamicParamOption = Annotated[
    float | None,
    typer.Option(
        help="For sv_fro: the fraction of the Frobenius norm to keep; for sv_cumulative: of the sum of the singular "
        "values; for sv_ratio: how many times smaller than the largest a singular value may be."
    ),
]


@app.command()
def extract(
    base: Annotated[str, typer.Argument(help="The checkpoint to start from: toybox, a folder or a .safetensors file.")],
    tuned: Annotated[str, typer.Argument(help="The checkpoint that the LoRA should give, of the same architecture.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", callback=writable, help="A .safetensors file, or a folder for peft.")
    ],
    rank: RankOption = None,
    conv_rank: ConvRankOption = None,
    dynamic_method: DynamicMethodOption = None,
    dynamic_param: DynamicParamOption = None,
    layout: Annotated[str, typer.Option("--format", help="kohya, diffusers or peft.")] = "kohya",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Write the LoRA that turns one checkpoint into another. --rank is 4 if neither it nor --dynamic-method is set."""
    from studio.formats.extracting import DEFAULT_RANK, extract_lora
    from studio.layers.rank_choice import RankChoice

    least = None if dynamic_method else DEFAULT_RANK
    ranks = RankChoice(rank or least, dynamic_method, dynamic_param, conv_rank)
    with _layers_bar("extracting") as on_layer:
        made = extract_lora(base, tuned, output, ranks, layout, dtype, on_layer)
    if made.lost:
        kinds = " and ".join(f"{count} {kind}" for kind, count in made.lost.items())
        notify(f"A LoRA cannot store the changes of {kinds}. They are left out.")
    document = {
        "file": str(made.path), "format": layout, "rank": made.rank, "error": made.error, "lost": made.lost,
        "ranks": made.ranks,
    }  # fmt: skip
    report(document, as_json, lambda: _show_extracted(made))


def _show_extracted(made: "Extracted") -> None:
    typer.echo(f"Wrote {made.path}: {len(made.ranks)} layers of rank {_range(made.ranks.values())}")
    typer.echo(f"Relative error {made.error:.3g} (Frobenius norm over all linear and convolution layers)")


@app.command()
def resize(
    file: Annotated[Path, typer.Argument(help="A LoRA file, .safetensors, or a folder that PEFT wrote.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", callback=writable, help="A .safetensors file; a folder for PEFT's.")
    ],
    rank: RankOption = None,
    conv_rank: ConvRankOption = None,
    dynamic_method: DynamicMethodOption = None,
    dynamic_param: DynamicParamOption = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16; that of the file if unset.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a LoRA file with other ranks, without its base model."""
    from studio.formats.resizing import resize_lora
    from studio.layers.rank_choice import RankChoice

    if rank is None and conv_rank is None and dynamic_method is None:
        raise StudioError("The new rank is missing. Give --rank or --dynamic-method.")
    ranks = RankChoice(rank, dynamic_method, dynamic_param, conv_rank)
    with _layers_bar("resizing") as on_layer:
        made = resize_lora(file, output, ranks, dtype, on_layer)
    if made.others:
        notify(f"{made.others} tensors of the file that are no LoRA are kept unchanged.")
    if made.magnitudes:
        notify(f"The DoRA magnitudes of {made.magnitudes} layers are kept, and the error is that before them.")
    document = {
        "file": str(made.path), "rank": made.rank, "error": made.error, "energy": made.energy, "others": made.others,
        "magnitudes": made.magnitudes, "former_ranks": made.former, "ranks": made.ranks,
    }  # fmt: skip
    report(document, as_json, lambda: _show_resized(made))


def _show_resized(made: "Resized") -> None:
    former, ranks = _range(made.former.values()), _range(made.ranks.values())
    typer.echo(f"Wrote {made.path}: {len(made.ranks)} layers, from rank {former} to rank {ranks}")
    typer.echo(f"Relative error {made.error:.3g}, {made.energy:.2%} of the energy (squared Frobenius norm) kept")


def _range(ranks: Iterable[int]) -> str:
    found = list(ranks)
    least, most = min(found), max(found)
    return str(most) if least == most else f"{least} to {most}"


@contextmanager
def _layers_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar of the layers done; yields what is called with their number and that of all."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=None, note="")
        yield lambda done, every: bar.update(task, completed=done, total=every)
