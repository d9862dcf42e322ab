"""One concept as products of factors, ready to be added to the outputs of the layers that it changes."""

from collections.abc import Mapping
from functools import lru_cache

import torch

from concepts.errors import StudioError
from studio.composition.loaded_concept import LoadedConcept
from studio.models.layer_strengths import Strength, strength_at
from studio.serving.routing import LoraFactors, routed


class ServedConcept:
    """A concept's adapters as products, kept at the strengths asked for last."""

    def __init__(self, name: str, concept: LoadedConcept):
        self.concept, self.sites = concept, concept.sites
        for site in self.sites.values():
            if routed(site) is None or concept.modules[site.name].acts_on_output:
                raise StudioError(
                    f"{name} cannot be used unmerged, since it changes {site.name}, but not as a weight matrix. "
                    "Use another --method."
                )
        self._factors = lru_cache(maxsize=4)(self._computed)

    def factors(self, strength: Strength) -> dict[str, LoraFactors]:
        """The products of every layer, by site name."""
        return self._factors(tuple(strength.items()) if isinstance(strength, Mapping) else strength)

    @torch.no_grad()
    def _computed(self, strength: float | tuple[tuple[str, float], ...]) -> dict[str, LoraFactors]:
        strengths = dict(strength) if isinstance(strength, tuple) else strength
        factors = {}
        for name, adapter in self.concept.modules.items():
            site, own = self.sites[name], strength_at(strengths, name)
            factors[name] = LoraFactors(
                adapter.low_rank(site.weight, own), adapter.bias_delta(site.weight, site.bias, own)
            )
        return factors
