"""What a caption says as a set of facts, and all facts that a caption may say."""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from training.toybox.scenes.captions import Caption
from training.toybox.scenes.individuals.traits import ACCESSORIES, ACCESSORY_COLOURS, KINDS, PATTERNS
from training.toybox.scenes.items import BACKGROUNDS, COLOURS, THINGS, TINTS
from training.toybox.scenes.render import KIND_NAMES

Fact = tuple[str, str, str]
"""Of whom, what, and which: ("cat", "colour", "black"), ("left", "kind", "cat")."""
SIDES = ("left", "middle", "right")
SOMETHING = "something"
"""Whom facts are of where no kind is named."""
FIELDS: dict[str, tuple[str, ...]] = {
    "kind": KIND_NAMES,
    "colour": tuple(COLOURS),
    "pattern": PATTERNS,
    "second_colour": tuple(COLOURS),
    "accessory": ACCESSORIES,
    "accessory_colour": ACCESSORY_COLOURS,
    "side": SIDES,
}
"""The fields of `captions.Said` and their values."""


def facts(caption: Caption) -> set[Fact]:
    """What the caption says of each item, both by its kind and by its side where that is said, and of the place."""
    said: set[Fact] = {("picture", "background", caption.background)} if caption.background else set()
    for item in caption.items:
        values = {field: value for field in FIELDS if (value := getattr(item, field))}
        said |= {(item.kind or SOMETHING, field, value) for field, value in values.items()}
        if item.side:
            said |= {(item.side, field, value) for field, value in values.items() if field != "side"}
    return said


@cache
def all_facts() -> dict[Fact, int]:
    """Every fact that a caption may say, with its place in a row of targets."""
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
    """A row for each caption, (n, facts) float32: 1 where the fact is said, 0 where it is not."""
    places = all_facts()
    rows = torch.zeros(len(captions), len(places))
    for row, caption in zip(rows, captions, strict=True):
        row[[places[fact] for fact in facts(caption)]] = 1
    return rows
