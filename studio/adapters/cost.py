"""The cost of an adapter on a model's sites, and the size that fits a parameter budget."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from concepts.errors import StudioError
from studio.adapters import Adapter, SiteContext
from studio.adapters.concept_file import TrainedConcept, file_size
from studio.adapters.registry import method_named
from studio.layers.target_modules import Role, Site

Shapes = Counter[tuple[tuple[int, ...], Role]]


@dataclass(frozen=True)
class Cost:
    """The cost of a method: trained parameters, also as its paper counts them; the bytes of a concept's file without
    tokens; and the rank of the LoRA that equals it, None where that may be full or there is none.
    """

    trained: int
    published: int
    file_bytes: int
    exact_rank: int | None


def shapes_of(sites: Mapping[str, Site]) -> Shapes:
    """How many sites there are of each shape (out, in) and role."""
    return Counter((tuple(site.weight.shape), site.role) for site in sites.values())


def num_parameters(adapter: str, config: Any, shapes: Shapes) -> int:
    """The number of parameters that the method trains on sites of these shapes."""
    method = method_named(adapter)
    return sum(count * method.num_parameters(shape, config, role) for (shape, role), count in shapes.items())


def sizes_of(adapter: str, config: Any, shapes: Shapes, budget: int) -> list[tuple[int, Any]]:
    """The number of parameters of every size of the method that fits these shapes, each with its configuration.

    Sizes beyond `budget` may be left out; `config` decides the rest.
    """
    narrowest = min(min(shape) for shape, _ in shapes)
    return [
        (num_parameters(adapter, candidate, shapes), candidate)
        for candidate in method_named(adapter).sizes(config, narrowest, budget // shapes.total() + 1)
        if _fits(adapter, candidate, shapes)
    ]


def fit_budget(adapter: str, config: Any, shapes: Shapes, budget: int) -> Any:
    """The largest configuration with at most `budget` trained parameters; `config` decides the rest.

    A method that adapts no layers has one size.

    Raises StudioError, with the smallest possible number, when no size is that small.
    """
    if not shapes:
        return config
    candidates = sizes_of(adapter, config, shapes, budget)
    within = [pair for pair in candidates if pair[0] <= budget]
    if not within:
        smallest = min((number for number, _ in candidates), default=0)
        raise StudioError(
            f"max_parameters = {budget:,} is too small for {adapter} on these layers. Choose at least {smallest:,}."
        )
    return max(within, key=lambda pair: pair[0])[1]


def _fits(adapter: str, config: Any, shapes: Shapes) -> bool:
    try:
        for shape, _ in shapes:
            method_named(adapter).check(shape, config)
    except StudioError:
        return False
    return True


def cost(adapter: str, config: Any, sites: Mapping[str, Site]) -> Cost:
    """The method's cost on these sites, from their shapes alone. Raises StudioError if it does not fit."""
    method, shapes = method_named(adapter), shapes_of(sites)
    return Cost(
        trained=num_parameters(adapter, config, shapes),
        published=sum(n * method.num_published_parameters(shape, config, role) for (shape, role), n in shapes.items()),
        file_bytes=_file_bytes(adapter, config, sites),
        exact_rank=_exact_rank(adapter, config, shapes),
    )


def _on_meta(adapter: str, config: Any, shape: tuple[int, ...], role: Role, name: str = "") -> Adapter:
    return method_named(adapter)(torch.empty(*shape, device="meta"), config, SiteContext(name=name, role=role))


def _file_bytes(adapter: str, config: Any, sites: Mapping[str, Site]) -> int:
    """The length of a concept's file, from shapes alone."""
    states = {
        name: _on_meta(adapter, config, tuple(site.weight.shape), site.role, name).state_dict()
        for name, site in sites.items()
    }
    return file_size(TrainedConcept("0" * 16, adapter, asdict(config), states))


def _exact_rank(adapter: str, config: Any, shapes: Shapes) -> int | None:
    ranks = []
    for shape, role in shapes:
        if role in ("norm", "output"):
            return None  # no LoRA can represent it
        weight = torch.empty(*shape, device="meta")
        built = _on_meta(adapter, config, shape, role, "unet.layer")
        factors = built.factors(weight)
        if factors is None or factors.rank > min(shape) or built.acts_on_output:
            return None
        ranks.append(factors.rank)
    return max(ranks, default=0)
