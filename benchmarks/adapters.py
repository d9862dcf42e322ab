"""Forward and backward of every adapter as a ratio to PEFT's LoRA of the same rank, and the set-up of the columns.

`uv run python -m benchmarks.adapters`
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from peft import LoraConfig, OFTConfig, VeraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import RESULTS, TIMING_COLUMNS, write_results
from studio.adapters import ADAPTERS
from studio.adapters.cost import shapes_of
from studio.layers.svd_basis import Decomposition, singular_columns
from studio.layers.target_modules import Site
from studio.models.architectures import architecture_sites
from training.reporting.html_report import table
from training.reporting.timing import Timing, added_at_peak, interleaved, machine, seconds_of, subprocess_pool
from training.studies.timed_operations import NO_LAYER, TOKENS, adapted_layer, layer, step_of

REFERENCE = "PEFT LoRA"
DENSE = "dense spectral"


class DenseSpectral(nn.Module):
    """Spectral additive tuning as published: W rebuilt from full U, S and V in every forward pass."""

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        columns = singular_columns(layer.weight)
        self.u, self.s, self.v = columns.u, columns.s, columns.v
        self.change_u = nn.Parameter(torch.zeros(len(self.u), rank))
        self.change_v = nn.Parameter(torch.zeros(len(self.v), rank))

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        rank = self.change_u.shape[1]
        u, v = self.u.clone(), self.v.clone()
        u = torch.cat([u[:, :rank] + self.change_u, u[:, rank:]], 1)
        v = torch.cat([v[:, :rank] + self.change_v, v[:, rank:]], 1)
        return F.linear(x, u @ torch.diag(self.s) @ v.mT)


def peft(config: Any, shape: tuple[int, int]) -> nn.Module:
    """The layer with one of PEFT's adapters."""
    model: Any = layer(*shape)
    return get_peft_model(model, config)


def contenders(shape: tuple[int, int], rank: int) -> dict[str, Callable[[], nn.Module]]:
    """How every contender is built, by name."""
    built: dict[str, Callable[[], nn.Module]] = {
        REFERENCE: lambda: peft(LoraConfig(r=rank, target_modules=["0"]), shape),
        "PEFT OFT": lambda: peft(OFTConfig(r=rank, oft_block_size=0, block_share=True, target_modules=["0"]), shape),
        "PEFT VeRA": lambda: peft(VeraConfig(r=rank, target_modules=["0"]), shape),
        DENSE: lambda: DenseSpectral(layer(*shape)[0], rank),  # pyright: ignore[reportArgumentType]
    }
    names = [name for name in ADAPTERS if name not in NO_LAYER]
    return built | {name: lambda name=name: adapted_layer(name, shape, rank) for name in names}


def peak_memory(name: str, shape: tuple[int, int], rank: int) -> float:
    """Megabytes that a training step of one contender adds at its peak to a process that has the model."""
    with subprocess_pool() as pool:
        return pool.apply(_peak_named, (name, shape, rank))


def _peak_named(name: str, shape: tuple[int, int], rank: int) -> float:
    step = step_of(contenders(shape, rank)[name](), shape[1])
    step()  # what the libraries keep for themselves from then on
    return added_at_peak(step)


def set_up_seconds(architecture: str) -> dict[str, float]:
    """Seconds to get the columns of every attention site, cold and stored, and by a full SVD of every weight."""
    torch.manual_seed(0)
    sites: dict[str, Site] = {}
    for name, site in architecture_sites(architecture).items():
        weight = nn.Linear(site.weight.shape[1], site.weight.shape[0], bias=False)
        sites[name] = Site(name, site.part, weight, nn.Sequential(weight), "0")
    with tempfile.TemporaryDirectory() as folder:
        return {
            "cold": seconds_of(lambda: _columns(sites, Path(folder))),
            "stored": seconds_of(lambda: _columns(sites, Path(folder))),
            "full SVD": _full_svd_seconds(sites),
        }


def _columns(sites: dict[str, Site], cache: Path) -> None:
    decomposition = Decomposition.of(sites, cache)
    for name in sites:
        decomposition.columns(name).block(0, 8)


def _full_svd_seconds(sites: dict[str, Site]) -> float:
    """The sum over all sites, with one of each shape measured."""
    return sum(
        count * seconds_of(lambda shape=shape: torch.linalg.svd(torch.randn(*shape), full_matrices=False))
        for (shape, _), count in shapes_of(sites).items()
    )


def main(
    rank: Annotated[int, typer.Option(help="The rank of all methods that have one.")] = 8,
    size: Annotated[list[int] | None, typer.Option(help="Sides of square layers; 320, 640 and 1280 if unset.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds; every method once in each.")] = 31,
    memory: Annotated[bool, typer.Option(help="Also measure each method's peak memory.")] = True,
    set_up: Annotated[bool, typer.Option(help="Also measure the set-up of the singular columns.")] = True,
    output: Annotated[Path, typer.Option(help="Where the table and the plot go.")] = RESULTS,
) -> None:
    """Measures layers of the sizes of Stable Diffusion 1.5 and XL and writes adapters.md and adapters.png."""
    groups = {str(side): _timings(side, rank, rounds) for side in size or (320, 640, 1280)}
    text = "\n\n".join([_heading(rank), *(_section(side, group, rank, memory) for side, group in groups.items())])
    if set_up:
        text += f"\n\n## Set-up of the singular columns\n\n{_set_up_table(('sd15',))}"
    write_results(output, "adapters", text, REFERENCE, groups)


def _timings(side: int, rank: int, rounds: int) -> list[Timing]:
    steps = {name: step_of(build(), side) for name, build in contenders((side, side), rank).items()}
    return interleaved(steps, REFERENCE, rounds)


def _heading(rank: int) -> str:
    return (
        f"# Adapters of one layer\n\nForward and backward of {TOKENS:,} tokens, float32, rank {rank}, as a ratio to "
        f"{REFERENCE} in the same round. {machine()}"
    )


def _section(side: str, timings: Sequence[Timing], rank: int, memory: bool) -> str:
    rows = [[timing.name, *timing.cells()] for timing in timings]
    columns = ["method", *TIMING_COLUMNS]
    if memory:
        columns.append("peak MB of a step")
        shape = (int(side), int(side))
        rows = [[*row, f"{peak_memory(row[0], shape, rank):.1f}"] for row in rows]
    return f"## {side} x {side}\n\n{table(columns, rows)}\n\n{_against_dense(timings)}"


def _against_dense(timings: Sequence[Timing]) -> str:
    """How many times as long the dense reference takes, in a sentence."""
    seconds = {timing.name: timing.seconds for timing in timings}
    times = {
        name: f"{np.median(seconds[DENSE] / seconds[name]):.2f}"
        for name in ("spectral_additive", "spectral_rotational", "bitfit")
    }
    return (
        f"The dense reference takes {times['spectral_additive']} times as long as `spectral_additive` and "
        f"{times['spectral_rotational']} times as long as `spectral_rotational`, medians of the rounds' ratios; "
        f"{times['bitfit']} times as long as `bitfit`, which is the frozen layer and little else."
    )


def _set_up_table(architectures: Sequence[str]) -> str:
    rows = []
    for name in architectures:
        seconds = set_up_seconds(name)
        rows.append([name, *(f"{seconds[kind]:.2f}" for kind in ("cold", "stored", "full SVD"))])
    return table(["architecture", "cold, s", "stored, s", "full SVD, s"], rows)


if __name__ == "__main__":
    typer.run(main)
