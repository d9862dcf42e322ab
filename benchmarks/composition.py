"""Every merge at the sizes of Stable Diffusion 1.5 and XL, gradient fusion beside L-BFGS, and switching and mixing on
toybox.

`uv run python -m benchmarks.composition`; what is in the results already is not measured again.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import RESULTS, started
from benchmarks.composition_toybox import (
    ADAPTER_OF,
    CONCEPTS,
    RANK,
    TOYBOX_COLUMNS,
    serving_row,
    timed,
    toybox_merges,
)
from concepts.storage import atomic_write
from studio.adapters import ADAPTERS, Adapter, SiteContext
from studio.composition import MERGES, MergeSite
from studio.composition.gradient_fusion_layer import RIDGE, gradient_fusion_delta
from studio.composition.merge_config import OF_ACTIVATIONS
from studio.layers.svd_basis import SingularColumns
from studio.models.architectures import architecture_sites
from studio.models.base_model import load_base
from training.reporting.html_report import table
from training.reporting.timing import added_at_peak, machine, subprocess_pool

TOKENS = 16 * 77
"""Inputs of each concept: 16 prompts."""


def adapters_for(method: str, weight: Tensor, name: str) -> list[Adapter]:
    """Adapters of three concepts with random values, in columns of their own."""
    kind = ADAPTERS[ADAPTER_OF.get(method, "lora")]
    kept = CONCEPTS * RANK
    columns = SingularColumns(torch.randn(len(weight), kept), torch.rand(kept), torch.randn(weight.shape[1], kept))
    made = []
    for index in range(CONCEPTS):
        config = kind.Config(rank=RANK, first_column=index * RANK) if kind.owns_block else kind.Config(rank=RANK)
        adapter = kind(weight, config, SiteContext(columns, name=name)).requires_grad_(False)
        for parameter in adapter.parameters():
            nn.init.normal_(parameter, std=0.02)
        made.append(adapter)
    return made


def inputs(seed: int, width: int, count: int = TOKENS) -> Tensor:
    """What a concept gives a layer, (count, width): as in real layers, a few directions hold most of it."""
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(7)))[0]
    spread = 10 * torch.arange(1, width + 1) ** -0.7
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(count, width, generator=generator) * spread) @ turn


def merge_all(method: str, threads: int, architecture: str = "sd15") -> tuple[float, float]:
    """Seconds to merge every site, and the megabytes that it adds at its peak to a process that has base and concepts.

    The merged deltas are all kept. Gram matrices are of random inputs; gathering them belongs to sampling.
    """
    torch.set_num_threads(threads)
    sites, seconds = [], 0.0
    for name, site in architecture_sites(architecture).items():
        weight = torch.randn(*site.weight.shape)
        sites.append((name, weight, adapters_for(method, weight, name)))
    grams: dict[int, list[Tensor]] = {}
    if method in OF_ACTIVATIONS:
        for width in {weight.shape[1] for _, weight, _ in sites}:
            grams[width] = [x.mT @ x for x in (inputs(seed, width, 2 * width) for seed in range(CONCEPTS + 1))]
    merged: list[Tensor] = []

    def merge() -> None:
        nonlocal seconds
        for name, weight, adapters in sites:
            site = merge_site(name, weight, adapters, grams.get(weight.shape[1]))
            taken, delta = timed(lambda site=site: MERGES[method](site))
            merged.append(delta)
            seconds += taken

    peak = added_at_peak(merge)
    return seconds, peak


def merge_site(name: str, weight: Tensor, adapters: list[Adapter], grams: list[Tensor] | None) -> MergeSite:
    """The site, with the last Gram matrix as that of the preserved inputs."""
    site = MergeSite(weight, adapters, [1.0] * CONCEPTS, name=name)
    return replace(site, grams=grams[:-1], preserved=grams[-1]) if grams else site


def merge_row(method: str, architecture: str, threads: int) -> list[str]:
    """One merge at an architecture's size, in a process of its own."""
    with subprocess_pool() as pool:
        seconds, megabytes = pool.apply(merge_all, (method, threads, architecture))
    return [method, ADAPTER_OF.get(method, "lora"), f"{seconds:.2f}", f"{megabytes:,.0f}"]


def by_lbfgs(xs: Tensor, wanted: Tensor, rho: float, iterations: int) -> Tensor:
    """Gradient fusion as published: L-BFGS on the mean squared error, with its line search and history."""
    delta = torch.zeros(wanted.shape[1], xs.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [delta], max_iter=iterations, max_eval=10 * iterations, history_size=25, line_search_fn="strong_wolfe",
        tolerance_grad=1e-16, tolerance_change=1e-16,
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(xs @ delta.mT, wanted) + rho * delta.square().sum() / wanted.numel()
        loss.backward()
        return loss

    optimizer.step(closure)
    return delta.detach()


def fusion_row(part: str, shape: tuple[int, int], iterations: int) -> list[str]:
    """Closed form, the Gram matrices included, and L-BFGS on the same activations and the same objective."""
    torch.manual_seed(0)
    weight = torch.randn(*shape)
    adapters, concept_inputs = (
        adapters_for("gradient_fusion", weight, part),
        [inputs(s, shape[1]) for s in range(CONCEPTS)],
    )
    xs = torch.cat(concept_inputs)
    wanted = torch.cat([x @ a.delta(weight).mT for x, a in zip(concept_inputs, adapters, strict=True)])
    rho = RIDGE * float(xs.square().sum()) / shape[1]

    def objective(delta: Tensor) -> float:
        error = (xs.double() @ delta.double().mT - wanted.double()).square().sum()
        return float(error + rho * delta.double().square().sum())

    def closed() -> Tensor:
        return gradient_fusion_delta(MergeSite(weight, adapters, [1.0] * CONCEPTS, [x.mT @ x for x in concept_inputs]))

    closed()
    seconds, ours = timed(closed)
    reference_seconds, theirs = timed(lambda: by_lbfgs(xs, wanted, rho, iterations))
    return [
        part, f"{shape[0]} x {shape[1]}", f"{seconds:.3f}", f"{objective(ours):.6g}", str(iterations),
        f"{reference_seconds:.1f}", f"{objective(theirs):.6g}", f"{reference_seconds / seconds:.0f}",
    ]  # fmt: skip


def ridge_rows(shape: tuple[int, int] = (320, 768)) -> list[list[str]]:
    """The squared error and the norm of the delta for several ridges."""
    weight = torch.randn(*shape)
    adapters, xs = (
        adapters_for("gradient_fusion", weight, "ridge"),
        [inputs(seed, shape[1]) for seed in range(CONCEPTS)],
    )
    site = MergeSite(weight, adapters, [1.0] * CONCEPTS, [x.mT @ x for x in xs])
    rows = []
    for ridge in (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        delta = gradient_fusion_delta(site, ridge)
        parts = zip(adapters, xs, strict=True)
        fit = sum(float(((a.delta(weight) - delta) @ x.mT).double().square().sum()) for a, x in parts)
        rows.append([f"{ridge:g}", f"{fit:.6g}", f"{delta.norm():.4g}"])
    return rows


def measurements(threads: int, rounds: int, iterations: int, few: int) -> dict[str, Callable[[], list[list[str]]]]:
    """What is measured, by section and row; each gives rows of that section's table."""
    base = load_base("toybox", device="cpu")
    layers = (
        ("text encoder", (768, 768), iterations), ("keys and values", (320, 768), iterations),
        ("keys and values", (1280, 768), iterations), ("other attention", (640, 640), few),
    )  # fmt: skip
    return {
        **{f"serving/{adapter}": lambda adapter=adapter: [serving_row(base, adapter, rounds)]
           for adapter in ("spectral_additive", "lora")},
        "toybox/all": lambda: toybox_merges(base, rounds),
        **{f"fusion/{part} {shape}": lambda part=part, shape=shape, steps=steps: [fusion_row(part, shape, steps)]
           for part, shape, steps in layers},
        "ridge/all": ridge_rows,
        **{f"{size}/{method}": lambda size=size, method=method: [merge_row(method, size, threads)]
           for size in ("sd15", "sdxl") for method in MERGES},
    }  # fmt: skip


MERGE_COLUMNS = ("merge", "adapter", "seconds", "peak MB beyond base and concepts")
SECTIONS = {
    "sd15": ("Merges at Stable Diffusion 1.5's size", MERGE_COLUMNS),
    "sdxl": ("Merges at Stable Diffusion XL's size", MERGE_COLUMNS),
    "toybox": ("Merges on toybox", TOYBOX_COLUMNS),
    "fusion": (
        "Gradient fusion in closed form and by L-BFGS\n\nOn the same activations, with the same ridge; the closed "
        "form's time includes its Gram matrices.",
        ("part", "layer", "closed form, s", "objective", "L-BFGS steps", "L-BFGS, s", "its objective", "speed-up"),
    ),
    "ridge": ("The ridge, as a share of the mean diagonal", ("ridge", "squared error", "norm of the delta")),
    "serving": (
        "Serving without merging, toybox\n\nThe ratio is that of four pictures of four concepts to four of one.",
        ("adapter", "load, ms", "switch, ms", "mixed batch, ratio"),
    ),
}


def as_markdown(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    parts = [f"# Composition\n\n{document['machine']} {CONCEPTS} concepts of rank {RANK} with random values."]
    for section, (title, columns) in SECTIONS.items():
        rows = [row for key, some in document["rows"].items() if key.startswith(f"{section}/") for row in some]
        if rows:
            parts.append(f"## {title}\n\n{table(columns, rows)}")
    return "\n\n".join(parts) + "\n"


def main(
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds on toybox.")] = 7,
    iterations: Annotated[int, typer.Option(min=1, help="L-BFGS steps for text encoder, keys and values.")] = 500,
    few: Annotated[int, typer.Option(min=1, help="L-BFGS steps for other layers.")] = 50,
    results: Annotated[Path, typer.Option(help="Where the tables go.")] = RESULTS,
) -> None:
    """Measure, and write composition.json and composition.md after every row."""
    torch.set_num_threads(threads)
    results.mkdir(parents=True, exist_ok=True)
    document = started(results / "composition.json", {"threads": threads, "steps": [iterations, few]}, "rows")
    document.setdefault("machine", machine())
    for key, measure in measurements(threads, rounds, iterations, few).items():
        if key not in document["rows"]:
            document["rows"][key] = measure()
            atomic_write(results / "composition.json", (json.dumps(document, indent=2) + "\n").encode())
            atomic_write(results / "composition.md", as_markdown(document).encode())
    print(as_markdown(document))


if __name__ == "__main__":
    typer.run(main)
