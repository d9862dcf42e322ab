"""Scenes of one individual, in any pose, place and size, and its hard negatives."""

from collections.abc import Callable
from dataclasses import replace

from training.toybox.scenes.backgrounds import Rng
from training.toybox.scenes.individuals.colours import contrasting_colours
from training.toybox.scenes.individuals.figure import sample_pose
from training.toybox.scenes.individuals.traits import (
    KINDS,
    UNCOLOURED,
    Individual,
    is_held_out,
    sample_individual,
)
from training.toybox.scenes.items import COLOURS, PLACES, PLAIN
from training.toybox.scenes.render import Item, Scene

LOWEST, HIGHEST = 0.42, 0.9
"""The range of an individual's height, in units of the picture's side."""
INTRUDED = 0.2
"""The probability that another item reaches in from the edge, as into a region of a larger picture."""
EDGES = ((-0.4, 0.08), (0.92, 1.4))


def individual_view(individual: Individual, rng: Rng) -> Scene:
    """The individual alone, or with a part of another item at the edge; it is the first of the scene's items."""
    hidden = "night" if individual.colour == "black" else f"plain {individual.colour}"
    names = [name for name in (*PLACES, *(f"plain {colour}" for colour in PLAIN)) if name != hidden]
    across, down, size = rng.random(3).tolist()
    height = LOWEST + size * (HIGHEST - LOWEST)
    items = [Item(individual, (0.0, 1.0), height, (across, 0.25 + 0.75 * down), sample_pose(rng))]
    if rng.random() < INTRUDED:
        edge, (x, y) = EDGES[int(rng.integers(2))], rng.random(2).tolist()
        items.append(Item(sample_individual(rng), edge, 0.48, (x, y), sample_pose(rng)))
    return Scene(tuple(items), str(rng.choice(names)), int(rng.integers(2**31)))


def _of_another_kind(one: Individual, rng: Rng) -> Individual:
    """The same palette on another kind, with the pattern and accessory if that kind has them."""
    kind = KINDS[str(rng.choice([name for name in KINDS if name != one.kind]))]
    coloured = [name for name in kind.patterns if name not in UNCOLOURED]
    pattern = one.pattern if one.pattern in kind.patterns else "plain"
    if one.second_colour and pattern in UNCOLOURED:
        pattern = str(rng.choice(coloured))
    accessory = one.accessory
    if accessory and accessory not in kind.accessories:
        accessory = str(rng.choice(kind.accessories))
    return replace(one, kind=kind.name, pattern=pattern, accessory=accessory, seed=int(rng.integers(2**31)))


def _in_another_palette(one: Individual, rng: Rng) -> Individual:
    colour = str(rng.choice(contrasting_colours(one.colour)))
    grounds = contrasting_colours(colour)
    second = str(rng.choice([name for name in grounds if name != one.second_colour])) if one.second_colour else None
    worn = str(rng.choice([name for name in grounds if name != second])) if one.accessory_colour else None
    return replace(one, colour=colour, second_colour=second, accessory_colour=worn)


def _with_colours_exchanged(one: Individual, rng: Rng) -> Individual:
    """Its main and second colour exchanged, or those of itself and its accessory; another palette if it has one."""
    if one.second_colour:
        return replace(one, colour=one.second_colour, second_colour=one.colour)
    if one.accessory_colour:
        return replace(one, colour=one.accessory_colour, accessory_colour=one.colour)
    return _in_another_palette(one, rng)


def _in_another_pattern(one: Individual, rng: Rng) -> Individual:
    pattern = str(rng.choice([name for name in KINDS[one.kind].patterns if name != one.pattern]))
    second = None if pattern in UNCOLOURED else one.second_colour or str(rng.choice(contrasting_colours(one.colour)))
    return replace(one, pattern=pattern, second_colour=second)


def _of_another_build(one: Individual, rng: Rng) -> Individual:
    return replace(one, seed=int(rng.integers(2**31)))


def _with_another_accessory(one: Individual, rng: Rng) -> Individual:
    others = [name for name in (None, *KINDS[one.kind].accessories) if name != one.accessory]
    accessory = others[int(rng.integers(len(others)))]
    free = [name for name in contrasting_colours(one.colour) if name in COLOURS and name != one.second_colour]
    worn = (one.accessory_colour or str(rng.choice(free))) if accessory else None
    return replace(one, accessory=accessory, accessory_colour=worn)


CHANGES: dict[str, Callable[[Individual, Rng], Individual]] = {
    "kind": _of_another_kind,
    "palette": _in_another_palette,
    "exchanged": _with_colours_exchanged,
    "pattern": _in_another_pattern,
    "build": _of_another_build,
    "accessory": _with_another_accessory,
}
"""The changes that make a hard negative, by name."""


def hard_negative(individual: Individual, change: str, rng: Rng) -> Individual:
    """Another individual that differs by one of `CHANGES`, never a held-out one; KeyError for an unknown change."""
    while True:
        other = CHANGES[change](individual, rng)
        if not is_held_out(other):
            return other
        if change == "exchanged":  # which is the same each time
            change = "palette"


def hard_negatives(individual: Individual, rng: Rng) -> list[Individual]:
    """Two of its palette in other shapes, and two of its shape: one in another palette, one in another pattern."""
    return [hard_negative(individual, change, rng) for change in ("kind", "kind", "palette", "pattern")]
