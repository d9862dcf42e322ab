"""The configuration of a merge: its method, the concepts' strengths, and the method's parameters."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from concepts.errors import StudioError
from studio.adapters.concept_file import TrainedConcept
from studio.composition import MERGES
from studio.models.layer_strengths import Strength, scaled_strength

OF_ACTIVATIONS = {
    "gradient_fusion": False,
    "gradient_fusion_preserving": True,
    "contrast": False,
    "automatic_strengths": False,
    "custom_diffusion": True,
}
"""The methods that read layers' inputs, and whether outputs without a concept should be preserved."""
PARAMETERS = ("density", "ridge", "rank", "contrast")
"""The parameters of merge methods, each by the name of its argument."""


def default_method(concepts: Mapping[str, TrainedConcept]) -> str:
    """spectral where every concept is spectral_additive, else fedavg."""
    return "spectral" if all(c.adapter == "spectral_additive" for c in concepts.values()) else "fedavg"


@dataclass(frozen=True)
class MergeConfig:
    """The configuration of a merge: the method, by `default_method` if None; a strength for each concept, 1 by
    default; and whether all strengths are divided by the number of concepts, as in the spectral adapters' code.

    `density` (ties and dare), `ridge` (gradient fusion), `rank` (svd) and `contrast` are the method's own defaults if
    None.
    """

    method: str | None = None
    strengths: Mapping[str, Strength] | None = None
    averaged: bool = False
    density: float | None = None
    ridge: float | None = None
    rank: int | None = None
    contrast: float | None = None

    def method_for(self, concepts: Mapping[str, TrainedConcept]) -> str:
        """The method's name; StudioError if it does not exist, and for parameters that it does not have."""
        chosen = self.method or default_method(concepts)
        if chosen not in MERGES:
            raise StudioError(f"There is no merge method {chosen!r}. Choose from {', '.join(MERGES)}.")
        refuse_parameters(chosen, self.parameters, inspect.signature(MERGES[chosen]).parameters)
        return chosen

    @property
    def parameters(self) -> dict[str, float]:
        """The method's parameters that are set, by name."""
        return {name: value for name in PARAMETERS if (value := getattr(self, name)) is not None}

    def strengths_for(self, concepts: Mapping[str, TrainedConcept]) -> dict[str, Strength]:
        """The strength of every concept."""
        share = 1 / len(concepts) if self.averaged else 1
        return {name: scaled_strength((self.strengths or {}).get(name, 1.0), share) for name in concepts}


def refuse_parameters(method: str, given: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Raises StudioError for a parameter that the method does not have."""
    if wrong := next((name for name in given if name not in known), None):
        having = [name for name, merge in MERGES.items() if wrong in inspect.signature(merge).parameters]
        raise StudioError(f"The merge method {method} has no {wrong}. Leave it out, or use {' or '.join(having)}.")
