"""What trained concepts changed, layer by layer: the report and the plots of `studio analyse`."""

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from concepts.errors import StudioError
from studio.adapters.concept_file import TrainedConcept
from studio.composition.loaded_concept import load_concept, load_concepts
from studio.metrics.subspace_similarity import pe_score
from studio.metrics.weight_analysis import ALIGNED, DIRECTIONS, alignment, analyse_weight, rotation_drift
from studio.models.base_model import Base


def analysis_of(
    base: Base, concept: TrainedConcept, on_layer: Callable[[int, int], None] = lambda _done, _all: None
) -> dict[str, Any]:
    """The concept's parameters and PE score, and the `WeightAnalysis` of every matrix that it changes, by layer.

    `on_layer` is called with the number of layers done and of all.
    """
    size = sum(parameter.numel() for part in base.parts.values() for parameter in part.parameters())
    trained = sum(tensor.numel() for state in concept.adapters.values() for tensor in state.values())
    score = concept.metadata.get("scores", {}).get("image_alignment")
    loaded = load_concept(base, concept)
    matrices = {name: a for name, a in loaded.modules.items() if loaded.sites[name].role in ("matrix", "branch_end")}
    layers = {}
    for index, (name, adapter) in enumerate(matrices.items(), 1):
        if found := analyse_weight(loaded.sites[name].weight, adapter):
            layers[name] = asdict(found)
        on_layer(index, len(matrices))
    return {
        "parameters": trained,
        "base_parameters": size,
        "pe_score": None if score is None else pe_score(score, trained, size),
        "rank": max((layer["rank"] for layer in layers.values()), default=0),
        "spectrum": max((layer["spectrum"] for layer in layers.values()), default=0.0),
        "magnitude_direction_correlation": _correlation(layers),
        "directions": list(DIRECTIONS),
        "layers": layers,
    }


def _correlation(layers: Mapping[str, Any]) -> float | None:
    """The correlation over layers of DoRA's changes of magnitude and direction; None for fewer than three layers."""
    pairs = np.array([(layer["magnitude"], layer["direction"]) for layer in layers.values()])
    if len(pairs) < 3 or not pairs.std(0).all():
        return None
    return float(np.corrcoef(pairs.T)[0, 1])


def plots_of(
    base: Base, concept: TrainedConcept, analysis: Mapping[str, Any], title: str, layer: str | None = None
) -> Image.Image:
    """Four plots: the similarity of every layer by number of directions, where the change lies among the singular
    directions, the alignment of the top singular vectors of `layer`, by default that of the largest change, and each
    layer's change of magnitude and direction.

    Raises StudioError for a layer that the concept does not change.
    """
    layers = analysis["layers"]
    chosen = layer or max(layers, key=lambda name: layers[name]["size"])
    if chosen not in layers:
        raise StudioError(
            f"{title} does not change the matrix {chosen}. Choose one of {', '.join(list(layers)[:3])}, …"
        )
    figure = Figure(figsize=(24, 2.8 + 0.17 * len(layers)), layout="constrained")
    first, second, third, fourth = figure.subplots(1, 4)
    figure.suptitle(title)
    _similarity(figure, first, layers)
    _shares(second, layers)
    loaded = load_concept(base, concept)
    _alignment(figure, third, alignment(loaded.sites[chosen].weight, loaded.modules[chosen]).cpu(), chosen)
    _magnitudes(fourth, layers)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return Image.open(buffer).convert("RGB")


def _similarity(figure: Figure, axes: Axes, layers: Mapping[str, Any]) -> None:
    values = [[float("nan") if v is None else v for v in layer["similarity"]] for layer in layers.values()]
    image = axes.imshow(values, aspect="auto", vmin=0, vmax=1, cmap="viridis")
    axes.set_yticks(range(len(layers)), list(layers), fontsize=6)
    axes.set_xticks(range(len(DIRECTIONS)), [str(number) for number in DIRECTIONS])
    axes.set(title="similarity of change and weight", xlabel="leading directions of weight and change")
    figure.colorbar(image, ax=axes, label="subspace similarity")


def _shares(axes: Axes, layers: Mapping[str, Any]) -> None:
    places, left = range(len(layers)), [0.0] * len(layers)
    for index, name in enumerate(("top", "middle", "bottom")):
        shares = [layer["shares"][index] for layer in layers.values()]
        axes.barh(places, shares, left=left, label=f"{name} third")
        left = [start + share for start, share in zip(left, shares, strict=True)]
    axes.set_yticks([])
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set(title="where the change lies", xlabel="share of the squared change", xlim=(0, 1))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)


def _magnitudes(axes: Axes, layers: Mapping[str, Any]) -> None:
    """DoRA's plot of directional and magnitude updates, a point for each layer."""
    for part in dict.fromkeys(name.split(".")[0] for name in layers):
        own = [layer for name, layer in layers.items() if name.startswith(f"{part}.")]
        axes.scatter([one["direction"] for one in own], [one["magnitude"] for one in own], s=14, label=part)
    axes.set(
        title="magnitude and direction (DoRA)", xlabel="mean of 1 − cosine of rows before and after",
        ylabel="mean change of the rows' norms",
    )  # fmt: skip
    axes.legend()


def _alignment(figure: Figure, axes: Axes, values: Any, layer: str) -> None:
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
    axes.set(
        title=f"alignment of the top {min(ALIGNED, len(values))} left singular vectors\n{layer}",
        xlabel="of the frozen weight", ylabel="of the adapted weight",
    )  # fmt: skip
    figure.colorbar(image, ax=axes, label="|cosine|")


def rotation_chain(base: Base, concepts: Mapping[str, TrainedConcept]) -> dict[str, dict[str, float]]:
    """After each concept of a chain of rotations, the largest drift from orthonormal columns and the largest change of
    a singular value over all layers, by concept. Raises StudioError for a method that does not rotate.
    """
    loaded = load_concepts(base, concepts)
    worst = {name: {"drift": 0.0, "spectrum": 0.0} for name in concepts}
    sites = {site: each.sites[site] for each in loaded.values() for site in each.modules}
    for site in sites:
        chain = [(name, each.modules[site]) for name, each in loaded.items() if site in each.modules]
        drifts = rotation_drift([adapter for _, adapter in chain], sites[site].weight)
        for (name, _), (drift, spectrum) in zip(chain, drifts, strict=True):
            own = worst[name]
            own["drift"], own["spectrum"] = max(own["drift"], drift), max(own["spectrum"], spectrum)
    return worst
