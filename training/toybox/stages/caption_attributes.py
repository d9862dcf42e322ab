"""A caption's attributes as a set of facts, and the set of all facts, for multi-label classification."""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from training.toybox.scenes.captions import Caption
from training.toybox.scenes.individuals.traits import ACCESSORIES, ACCESSORY_COLOURS, KINDS, PATTERNS
from training.toybox.scenes.items import BACKGROUNDS, COLOURS, THINGS, TINTS
from training.toybox.scenes.render import KIND_NAMES

Fact = tuple[str, str, str]
"""Subject, attribute and value: ("cat", "colour", "black"), ("left", "kind", "cat")."""
SIDES = ("left", "middle", "right")
SOMETHING = "something"
"""The subject of facts where no kind is named."""
FIELDS: dict[str, tuple[str, ...]] = {
    "kind": KIND_NAMES,
    "colour": tuple(COLOURS),
    "pattern": PATTERNS,
    "second_colour": tuple(COLOURS),
    "accessory": ACCESSORIES,
    "accessory_colour": ACCESSORY_COLOURS,
    "side": SIDES,
}
"""The fields of `captions.CaptionedItem` and their values."""


def facts(caption: Caption) -> set[Fact]:
    """The caption's facts of each item, by its kind and, if mentioned, by its side, and of the background."""
    found: set[Fact] = {("picture", "background", caption.background)} if caption.background else set()
    for item in caption.items:
        values = {field: value for field in FIELDS if (value := getattr(item, field))}
        found |= {(item.kind or SOMETHING, field, value) for field, value in values.items()}
        if item.side:
            found |= {(item.side, field, value) for field, value in values.items() if field != "side"}
    return found


@cache
def all_facts() -> dict[Fact, int]:
    """All facts, with their indices in a row of targets."""
    return {fact: index for index, fact in enumerate(_enumerated())}


def _enumerated() -> Iterator[Fact]:
    for kind in KINDS.values():
        own = {**FIELDS, "kind": (kind.name,), "pattern": kind.patterns, "accessory": kind.accessories}
        yield from ((kind.name, field, value) for field, values in own.items() for value in values)
    for thing in THINGS:
        own = {"kind": (thing,), "colour": TINTS, "side": SIDES}
        yield from ((thing, field, value) for field, values in own.items() for value in values)
    for whose in (SOMETHING, *SIDES):
        yield from ((whose, field, value) for field, values in FIELDS.items() for value in values)
    yield from (("picture", "background", name) for name in BACKGROUNDS)


def targets(captions: list[Caption]) -> Tensor:
    """A row for each caption, (n, facts) float32: 1 where the caption has the fact, else 0."""
    places = all_facts()
    rows = torch.zeros(len(captions), len(places))
    for row, caption in zip(rows, captions, strict=True):
        row[[places[fact] for fact in facts(caption)]] = 1
    return rows
