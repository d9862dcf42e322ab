"""What a trained concept changed, layer by layer."""

import io
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from studio.adapters.concept_file import TrainedConcept
from studio.composition.loaded_concept import load_concept
from studio.layers.svd_basis import singular_columns
from studio.metrics.subspace_similarity import pe_score, similarity_to_base
from studio.models.base_model import Base

DIRECTIONS = (1, 2, 4, 8, 16)
"""How many of the leading directions of both are compared."""


def analysis_of(base: Base, concept: TrainedConcept) -> dict[str, Any]:
    """The subspace similarity of every adapted matrix by number of directions, and the PE score of the concept.

    A similarity is None where the adapter changed nothing or the layer has fewer directions.
    """
    size = sum(parameter.numel() for part in base.parts.values() for parameter in part.parameters())
    trained = sum(tensor.numel() for state in concept.adapters.values() for tensor in state.values())
    alignment = concept.metadata.get("scores", {}).get("image_alignment")
    return {
        "parameters": trained,
        "base_parameters": size,
        "pe_score": None if alignment is None else pe_score(alignment, trained, size),
        "directions": list(DIRECTIONS),
        "similarity": _similarities(base, concept),
    }


def _similarities(base: Base, concept: TrainedConcept) -> dict[str, list[float | None]]:
    loaded = load_concept(base, concept)
    sites, rows = loaded.sites, dict[str, list[float | None]]()
    for name, adapter in loaded.modules.items():
        weight = sites[name].weight
        change, most = adapter.low_rank(weight), min(weight.shape)
        if sites[name].role in ("norm", "output") or not change.rank:
            continue
        kept = min(most, max(DIRECTIONS))
        columns = base.decomposition.columns(name) if name in base.sites else singular_columns(weight, kept)
        rows[name] = [similarity_to_base(columns.u, change, n) if n <= most else None for n in DIRECTIONS]
    return rows


def heat_map(analysis: dict[str, Any], title: str) -> Image.Image:
    """The similarities as colours, a row for each layer and a column for each number of directions."""
    names, rows = list(analysis["similarity"]), list(analysis["similarity"].values())
    figure = Figure(figsize=(9, 1.6 + 0.17 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    values = [[float("nan") if value is None else value for value in row] for row in rows]
    image = axes.imshow(values, aspect="auto", vmin=0, vmax=1, cmap="viridis")
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.set_xticks(range(len(DIRECTIONS)), [str(number) for number in analysis["directions"]])
    axes.set(title=title, xlabel="leading directions of weight and change")
    figure.colorbar(image, label="subspace similarity")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return Image.open(buffer).convert("RGB")
