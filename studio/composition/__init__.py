"""The merge methods, which merge several concepts into one weight. To add one, write its file and add a line here."""

from studio.composition.automatic_strengths import automatic_strengths
from studio.composition.base import MergeMethod, MergeSite, merge_biases, merge_concepts
from studio.composition.contrast import contrast
from studio.composition.custom_diffusion import custom_diffusion
from studio.composition.dare import dare
from studio.composition.fedavg import fedavg
from studio.composition.gradient_fusion_layer import gradient_fusion_delta, gradient_fusion_preserving
from studio.composition.magnitude import magnitude
from studio.composition.orthogonal import orthogonal
from studio.composition.shared_columns import shared_blocks, sharing_notes
from studio.composition.spectral import spectral
from studio.composition.svd import svd
from studio.composition.ties import ties

MERGES: dict[str, MergeMethod] = {
    "spectral": spectral,
    "fedavg": fedavg,
    "gradient_fusion": gradient_fusion_delta,
    "gradient_fusion_preserving": gradient_fusion_preserving,
    "contrast": contrast,
    "automatic_strengths": automatic_strengths,
    "custom_diffusion": custom_diffusion,
    "orthogonal": orthogonal,
    "ties": ties,
    "dare": dare,
    "svd": svd,
    "magnitude": magnitude,
}

__all__ = [
    "MERGES",
    "MergeMethod",
    "MergeSite",
    "merge_biases",
    "merge_concepts",
    "shared_blocks",
    "sharing_notes",
]
