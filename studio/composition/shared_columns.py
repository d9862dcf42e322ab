"""Which concepts share singular columns or basis rows."""

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from studio.adapters.concept_file import TrainedConcept, config_of
from studio.adapters.registry import method_named
from studio.adapters.singular_columns import OwnColumns


def shared_blocks(concepts: Mapping[str, TrainedConcept]) -> dict[tuple[str, str], list[int]]:
    """The singular columns, or basis rows, that two of these concepts both use, by the pair's names.

    Empty when all are disjoint; concepts whose method uses neither share nothing.
    """
    spaces: dict[Any, dict[str, set[int]]] = defaultdict(dict)
    for name, concept in concepts.items():
        method, config = method_named(concept.adapter), config_of(concept)
        if issubclass(method, OwnColumns):
            spaces[config.basis][name] = set(config.used)
        elif method.owns_block:
            spaces["rows", config.seed][name] = set(range(config.first_column, config.first_column + config.rank))
    overlaps = {
        (one, other): sorted(used[one] & used[other])
        for used in spaces.values()
        for one, other in combinations(used, 2)
    }
    return {pair: columns for pair, columns in overlaps.items() if columns}


def sharing_notes(concepts: Mapping[str, TrainedConcept]) -> list[str]:
    """A note for every pair of concepts that share columns, with the number expected by chance if both were sampled."""
    return [
        f"{one} and {other} share {len(shared)} of their columns ({_listed(shared)}){_expected(concepts, one, other)}: "
        "merged, their changes there add up."
        for (one, other), shared in shared_blocks(concepts).items()
    ]


def expected_overlap(ranks: tuple[int, int], count: int) -> float:
    """How many of `count` columns two concepts share on average if each draws its own without coordination."""
    return ranks[0] * ranks[1] / count


def _expected(concepts: Mapping[str, TrainedConcept], one: str, other: str) -> str:
    configs = [concepts[name].config for name in (one, other)]
    if not all(config.get("sampled_from") for config in configs):
        return ""
    expected = expected_overlap((configs[0]["rank"], configs[1]["rank"]), configs[0]["sampled_from"])
    return f", where {expected:.1f} are expected of columns sampled independently"


def _listed(columns: list[int]) -> str:
    """Indices as text: "6 to 7" for a range of them, else "3, 9"."""
    whole = columns[-1] - columns[0] + 1 == len(columns)
    return f"{columns[0]} to {columns[-1]}" if whole else ", ".join(map(str, columns))
