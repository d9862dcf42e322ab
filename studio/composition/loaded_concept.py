"""A trained concept on a base: read once and built once, for merging, serving and exporting alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.concept_file import TrainedConcept, build_adapters, kinds_of
from studio.layers.target_modules import Site
from studio.models.base_model import Base


@dataclass(frozen=True, eq=False)
class LoadedConcept(TrainedConcept):
    """A trained concept with its adapters built on the base that it was loaded for.

    `modules` are the adapters by site name, `sites` the sites that they adapt, and `kind_sites` all sites of the kinds
    that the concept's method adapts. None of them may be changed: whoever has the concept shares them.
    """

    loaded_for: Base | None = None
    modules: Mapping[str, Adapter] = field(default_factory=dict)
    kind_sites: Mapping[str, Site] = field(default_factory=dict)

    @property
    def weight_adapters(self) -> dict[str, Adapter]:
        """The adapters that change weights or biases, which a merge can have, by site name."""
        return {name: adapter for name, adapter in self.modules.items() if not adapter.acts_on_output}

    @property
    def output_adapters(self) -> dict[str, Adapter]:
        """The adapters that change their layer's output in every forward pass, by site name."""
        return {name: adapter for name, adapter in self.modules.items() if adapter.acts_on_output}

    @property
    def sites(self) -> dict[str, Site]:
        """The sites that the concept changes, by name."""
        return {name: self.kind_sites[name] for name in self.modules}


def load_concept(base: Base, concept: TrainedConcept) -> LoadedConcept:
    """The concept on this base; one that was loaded for it is returned as it is.

    Raises StudioError if it was trained on another base, or if its tensors do not fit.
    """
    if isinstance(concept, LoadedConcept) and concept.loaded_for is base:
        return concept
    sites = base.sites_of(kinds_of(concept))
    modules = build_adapters(concept, sites, base.decomposition)
    own = {each.name: getattr(concept, each.name) for each in fields(TrainedConcept)}
    return LoadedConcept(**own, loaded_for=base, modules=modules, kind_sites=sites)


def load_concepts(base: Base, concepts: Mapping[str, TrainedConcept]) -> dict[str, LoadedConcept]:
    """The concepts on this base, by name."""
    return {name: load_concept(base, concept) for name, concept in concepts.items()}


def sites_of(concepts: Mapping[str, LoadedConcept]) -> dict[str, Site]:
    """All sites of the kinds that these concepts adapt, by name. StudioError where one adapts a layer's weight and
    another its output, which cannot be merged.
    """
    roles: dict[str, str] = {}
    for concept in concepts.values():
        for name in concept.modules:
            role = "output" if concept.kind_sites[name].role == "output" else "weight"
            if roles.setdefault(name, role) != role:
                raise StudioError(
                    f"One of these concepts changes the weight of {name}, and another its output. Use one of them."
                )
    return {name: site for concept in concepts.values() for name, site in concept.kind_sites.items()}
