"""Evaluation prompts of toybox's world, and whether a picture matches its prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from training.toybox.scenes.backgrounds import Rng
from training.toybox.scenes.captions import caption
from training.toybox.scenes.individuals.figure import sample_pose
from training.toybox.scenes.individuals.traits import KINDS, Individual, sample_individual
from training.toybox.scenes.items import BACKGROUNDS, COLOURS, PLACES, TINTS
from training.toybox.scenes.render import KIND_NAMES, Item, Scene
from training.toybox.scenes.wording import PATTERN_WORDS, PLURAL, with_article
from training.toybox.stages.detector import DetectedItem, Detection

CATEGORIES = ("one_object", "attributes", "background", "colour", "two_objects", "position")
SHEET, SHEET_SEED = 48, 7


@dataclass(frozen=True)
class RequestedItem:
    """An item that a picture must show; None matches anything. `side` is left or right of the other item."""

    kind: str
    colour: str | None = None
    pattern: str | None = None
    accessory: str | None = None
    side: str | None = None

    def shown_by(self, found: DetectedItem) -> bool:
        """Whether the detected item matches, whatever its side."""
        pairs = ((self.kind, found.kind), (self.colour, found.colour), (self.pattern, found.pattern),
                 (self.accessory, found.accessory))  # fmt: skip
        return all(wanted in (None, seen) for wanted, seen in pairs)


@dataclass(frozen=True)
class EvaluationPrompt:
    """A prompt and what its picture must show: items, and a background (None: any)."""

    category: str
    prompt: str
    asked: tuple[RequestedItem, ...] = ()
    background: str | None = None

    def answered(self, detection: Detection) -> bool:
        """Whether the most confident items and the background match the prompt, each item on its side."""
        clearest = detection.items[: len(self.asked)]
        if len(clearest) < len(self.asked) or self.background not in (None, detection.background):
            return False
        return any(self._fits(order) for order in permutations(clearest))

    def _fits(self, order: Sequence[DetectedItem]) -> bool:
        middle = sum(found.x for found in order) / max(1, len(order))
        sides = ((asked.side, "left" if found.x < middle else "right")
                 for asked, found in zip(self.asked, order, strict=True))  # fmt: skip
        shown = all(asked.shown_by(found) for asked, found in zip(self.asked, order, strict=True))
        return shown and all(wanted in (None, side) for wanted, side in sides)


def evaluation_prompts(rounds: int = 1, seed: int = 0) -> list[EvaluationPrompt]:
    """The prompts of each round: every kind and thing alone, in a colour, and in two pairs; each individual's kind
    three times with attributes; every background twice.
    """
    rng, asked = np.random.default_rng(seed), []
    for _ in range(rounds):
        tones = dict(zip(KINDS, rng.permutation(list(COLOURS)).tolist(), strict=False))
        for name in KIND_NAMES:
            colour = tones.get(name) or str(rng.choice(TINTS))
            asked.append(EvaluationPrompt("one_object", f"a photo of {with_article(name)}", (RequestedItem(name),)))
            tinted = with_article(f"{colour} {name}")
            asked.append(EvaluationPrompt("colour", f"a photo of {tinted}", (RequestedItem(name, colour),)))
            asked += [_pair(name, rng), _sided(name, rng)]
        asked += [_described(kind, rng) for kind in KINDS for _ in range(3)]
        for place in list(BACKGROUNDS.values()) * 2:
            prompt = f"a photo of {with_article(str(rng.choice(KIND_NAMES)))} {rng.choice(place.phrases)}"
            asked.append(EvaluationPrompt("background", prompt, (), place.name))
    return asked


def _other(name: str, rng: Rng) -> str:
    return str(rng.choice([other for other in KIND_NAMES if other != name]))


def _pair(name: str, rng: Rng) -> EvaluationPrompt:
    other = _other(name, rng)
    prompt = f"a photo of {with_article(name)} and {with_article(other)}"
    return EvaluationPrompt("two_objects", prompt, (RequestedItem(name), RequestedItem(other)))


def _sided(name: str, rng: Rng) -> EvaluationPrompt:
    """The first of a pair on a side of the other, worded as in captions."""
    other, side = _other(name, rng), ("left", "right")[int(rng.integers(2))]
    across = "right" if side == "left" else "left"
    prompt = f"a photo of {with_article(name)} to the {side} of {with_article(other)}"
    return EvaluationPrompt("position", prompt, (RequestedItem(name, side=side), RequestedItem(other, side=across)))


def _described(kind: str, rng: Rng) -> EvaluationPrompt:
    """An individual of the kind with a pattern and an accessory."""
    while True:
        one = sample_individual(rng, kind)
        if one.pattern != "plain" and one.accessory:
            asked = RequestedItem(kind, one.colour, one.pattern, one.accessory)
            return EvaluationPrompt("attributes", f"a photo of {description(one)}", (asked,))


def description(one: Individual) -> str:
    """A description of the individual with all of its named traits."""
    adjectives, features = [one.colour, one.kind], []
    if one.second_colour:
        article, noun = PATTERN_WORDS[one.pattern][0]
        words = f"{one.second_colour} {noun}"
        features.append(with_article(words) if article else words)
    elif one.pattern != "plain":
        adjectives.insert(0, one.pattern)
    if one.accessory == "one eye":
        features.append(f"one {one.accessory_colour} eye")
    elif one.accessory:
        words = f"{one.accessory_colour} {one.accessory}"
        features.append(words if one.accessory in PLURAL else with_article(words))
    return with_article(" ".join(adjectives)) + (f" with {' and '.join(features)}" if features else "")


def about(scene: Scene) -> list[EvaluationPrompt]:
    """The evaluation prompts that a rendered scene matches."""
    items = [item.subject for item in scene.items]
    asked = [EvaluationPrompt("background", "", (), scene.background)]
    kinds = tuple(RequestedItem(item.kind) for item in scene.items)
    if len(items) == 1:
        (one,) = items
        asked.append(EvaluationPrompt("one_object", "", kinds))
        if one.colour:
            asked.append(EvaluationPrompt("colour", "", (RequestedItem(kinds[0].kind, one.colour),)))
        if isinstance(one, Individual) and one.pattern != "plain" and one.accessory:
            asked.append(
                EvaluationPrompt("attributes", "", (RequestedItem(one.kind, one.colour, one.pattern, one.accessory),))
            )
    elif len(items) == 2:
        left, right = sorted(scene.items, key=lambda item: item.slot)
        asked.append(EvaluationPrompt("two_objects", "", kinds))
        asked.append(
            EvaluationPrompt(
                "position", "", (RequestedItem(left.kind, side="left"), RequestedItem(right.kind, side="right"))
            )
        )
    return asked


def sheet_prompts(count: int = SHEET, seed: int = SHEET_SEED) -> list[str]:
    """Random captions of one individual each, over all kinds and colours in turn; none is chosen by hand."""
    rng, prompts = np.random.default_rng(seed), []
    kinds, colours = rng.permutation(list(KINDS)).tolist(), rng.permutation(list(COLOURS)).tolist()
    for index in range(count):
        kind, colour = kinds[index % len(kinds)], colours[index % len(colours)]
        one = sample_individual(rng, kind, tuple(name for name in COLOURS if name != colour))
        item = Item(one, (0.0, 1.0), 0.7, (0.5, 0.6), sample_pose(rng))
        prompts.append(caption(Scene((item,), str(rng.choice(list(PLACES))), 0), rng).text)
    return prompts
