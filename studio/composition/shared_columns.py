"""Which concepts share singular columns or basis rows."""

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations

from studio.adapters.concept_file import TrainedConcept
from studio.adapters.registry import method_named


def shared_blocks(concepts: Mapping[str, TrainedConcept]) -> dict[tuple[str, str], range]:
    """The singular columns, or basis rows, that two of these concepts both use, by the pair's names.

    Empty when all are disjoint; concepts whose method uses neither share nothing.
    """
    spaces: dict[bool, dict[str, range]] = defaultdict(dict)
    for name, concept in concepts.items():
        method = method_named(concept.adapter)
        if method.owns_block:
            first = concept.config["first_column"]
            spaces[method.uses_columns][name] = range(first, first + concept.config["rank"])
    overlaps = {
        (one, other): range(max(blocks[one].start, blocks[other].start), min(blocks[one].stop, blocks[other].stop))
        for blocks in spaces.values()
        for one, other in combinations(blocks, 2)
    }
    return {pair: columns for pair, columns in overlaps.items() if columns}


def sharing_notes(concepts: Mapping[str, TrainedConcept]) -> list[str]:
    """A note for every pair of concepts that share columns."""
    return [
        f"{one} and {other} share {len(shared)} of their columns ({shared.start} to {shared.stop - 1}): "
        "merged, their changes there add up."
        for (one, other), shared in shared_blocks(concepts).items()
    ]
