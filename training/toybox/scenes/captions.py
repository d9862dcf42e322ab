"""Generates captions of scenes in many wordings, with the attributes that each caption mentions."""

from dataclasses import dataclass, replace

from training.toybox.scenes.backgrounds import Rng
from training.toybox.scenes.individuals.traits import Individual
from training.toybox.scenes.items import BACKGROUNDS
from training.toybox.scenes.render import Item, Scene
from training.toybox.scenes.wording import (
    ACCESSORY_SYNONYMS,
    ADJECTIVES,
    COLOUR_SYNONYMS,
    PATTERN_WORDS,
    PLURAL,
    WORN,
    general_word,
    synonyms,
    with_article,
)

OPENINGS = (
    *[""] * 6,
    "a photo of ",
    "a photo of ",
    "a picture of ",
    "an image of ",
    "a drawing of ",
    "a painting of ",
    "an illustration of ",
    "a rendering of ",
    "a cartoon of ",
)
_JOINTS = (*["{a} and {b}"] * 4, "{a} next to {b}", "{a} beside {b}", "{a} with {b}")
_SIDES = (
    ("{left} to the left of {right}", "lr"),
    ("{left} left of {right}", "lr"),
    ("{right} to the right of {left}", "lr"),
    ("{right} right of {left}", "lr"),
    ("{left} on the left and {right} on the right", "lr"),
    ("{right} on the right and {left} on the left", "lr"),
    ("{left} on the left and {right}", "l"),
    ("{left} and {right} on the right", "r"),
)
_ROWS = (
    ("{left} on the left, {middle} in the middle and {right} on the right", "lmr"),
    ("{left}, {middle} and {right} from left to right", "lmr"),
    ("{middle} between {left} and {right}", "m"),
    ("{middle} between {right} and {left}", "m"),
    ("{left} on the left, {middle} and {right}", "l"),
    ("{left}, {middle} and {right} on the right", "r"),
)
_SIDE_NAMES = {"l": "left", "m": "middle", "r": "right"}
SHORT, FULL = 0.22, 0.28
"""The probability of a caption without its items' attributes, and of one with all of them."""


@dataclass(frozen=True)
class CaptionedItem:
    """The attributes that a caption mentions of one item; None for those that it does not.

    `kind` is a name of `render.KIND_NAMES`, whatever synonym the caption has; `side` is left, middle or right. A plain
    pattern is never mentioned.
    """

    kind: str | None = None
    colour: str | None = None
    pattern: str | None = None
    second_colour: str | None = None
    accessory: str | None = None
    accessory_colour: str | None = None
    side: str | None = None


@dataclass(frozen=True)
class Caption:
    """A caption, the attributes that it mentions of each of the scene's items, and the background if mentioned."""

    text: str
    items: tuple[CaptionedItem, ...]
    background: str | None


def caption(scene: Scene, rng: Rng) -> Caption:
    """One of the many captions of the scene."""
    place = _pick(rng, BACKGROUNDS[scene.background].phrases)
    if not scene.items:
        text = _pick(rng, (f"an empty scene {place}", f"nothing {place}", f"the view {place}"))
        return Caption(text, (), scene.background)
    kinds = [item.kind for item in scene.items]
    chance = rng.random()
    detail = 0.0 if chance < SHORT else 1.0 if chance > 1 - FULL else float(rng.uniform(0.35, 0.85))
    described = [_describe(item, detail, kinds.count(item.kind) > 1, rng) for item in scene.items]
    subject, captioned = _arranged(scene.items, described, rng)
    manner = rng.random()
    if manner < 0.13:
        return Caption(_pick(rng, OPENINGS) + subject, captioned, None)
    if manner < 0.2:
        return Caption(f"{place}, {subject}", captioned, scene.background)
    return Caption(f"{_pick(rng, OPENINGS)}{subject} {place}", captioned, scene.background)


def _arranged(
    items: tuple[Item, ...], described: list[tuple[str, CaptionedItem]], rng: Rng
) -> tuple[str, tuple[CaptionedItem, ...]]:
    """The items' descriptions as one phrase, with or without their sides."""
    names, captioned = [name for name, _ in described], [fact for _, fact in described]
    if len(items) == 1:
        return names[0], tuple(captioned)
    if rng.random() < 0.5:
        order = rng.permutation(len(items))
        if len(items) == 2:
            return _pick(rng, _JOINTS).format(a=names[order[0]], b=names[order[1]]), tuple(captioned)
        first, second, third = (names[i] for i in order)
        return f"{first}, {second} and {third}", tuple(captioned)
    across = sorted(range(len(items)), key=lambda i: items[i].slot)
    letters = "lr" if len(items) == 2 else "lmr"
    forms = _SIDES if len(items) == 2 else _ROWS
    form, sided = forms[int(rng.integers(len(forms)))]
    where = {_SIDE_NAMES[letter]: index for letter, index in zip(letters, across, strict=True)}
    for letter in sided:
        index = where[_SIDE_NAMES[letter]]
        captioned[index] = replace(captioned[index], side=_SIDE_NAMES[letter])
    return form.format(**{side: names[index] for side, index in where.items()}), tuple(captioned)


def _describe(item: Item, detail: float, alike: bool, rng: Rng) -> tuple[str, CaptionedItem]:
    """A description of one item; each of its traits is mentioned with probability `detail`.

    The colour is always mentioned for `alike` items, of one kind.
    """
    subject, others = item.subject, synonyms(item.kind)
    word = _pick(rng, others) if others and rng.random() < 0.15 else item.kind
    if not isinstance(subject, Individual):
        tone = f"{_colour(subject.colour, rng)} " if subject.colour else ""
        return with_article(tone + word), CaptionedItem(item.kind, subject.colour)
    colour = subject.colour if alike or rng.random() < (detail or 0.5) else None
    captioned = CaptionedItem(item.kind, colour)
    if colour and not alike and rng.random() < 0.02:
        captioned, word = replace(captioned, kind=None), general_word(item.kind)
    adjectives = [_colour(colour, rng)] if colour else []
    features = []
    if subject.pattern != "plain" and rng.random() < detail:
        captioned = _pattern(subject, captioned, adjectives, features, detail, rng)
    wearing = ""
    if subject.accessory and rng.random() < detail:
        tone = subject.accessory_colour if detail == 1 or rng.random() < 0.8 else None
        captioned = replace(captioned, accessory=subject.accessory, accessory_colour=tone)
        words = _accessory(subject.accessory, _colour(tone, rng) if tone else "", rng)
        if subject.accessory in WORN and (item.kind == "robot" or captioned.kind is None or _wears(item)):
            wearing = words if rng.random() < 0.65 else ""
        if not wearing:
            features.insert(int(rng.integers(len(features) + 1)), words)
    name = with_article(" ".join([*adjectives, word]))
    return name + _joined(features, wearing, rng), captioned


def _wears(item: Item) -> bool:
    return general_word(item.kind) == "animal"


def _joined(features: list[str], wearing: str, rng: Rng) -> str:
    text = f" with {' and '.join(features)}" if features else ""
    if not wearing:
        return text
    return text + (f" and wearing {wearing}" if text and rng.random() < 0.4 else f" wearing {wearing}")


def _pattern(
    subject: Individual, captioned: CaptionedItem, adjectives: list[str], features: list[str], detail: float, rng: Rng
) -> CaptionedItem:
    """Adds the pattern to the adjectives or to the features, and to the captioned attributes."""
    pattern, adjective = subject.pattern, ADJECTIVES.get(subject.pattern)
    if subject.second_colour is None:
        adjectives.insert(0, adjective or pattern)
        return replace(captioned, pattern=pattern)
    if adjective and detail < 1 and rng.random() < 0.12:
        adjectives.insert(0, adjective)
        return replace(captioned, pattern=pattern)
    second = _colour(subject.second_colour, rng)
    captioned = replace(captioned, pattern=pattern, second_colour=subject.second_colour)
    if adjective and adjectives and rng.random() < 0.2:
        adjectives.extend(["and", second, adjective])
        return captioned
    article, noun = PATTERN_WORDS[pattern][int(rng.integers(len(PATTERN_WORDS[pattern])))]
    features.append(with_article(f"{second} {noun}") if article else f"{second} {noun}")
    return captioned


def _accessory(name: str, colour: str, rng: Rng) -> str:
    if name == "one eye":
        return " ".join(filter(None, ("one", colour, "eye")))
    noun = ACCESSORY_SYNONYMS[name] if name in ACCESSORY_SYNONYMS and rng.random() < 0.3 else name
    words = f"{colour} {noun}".strip()
    return words if name in PLURAL else with_article(words)


def _colour(name: str, rng: Rng) -> str:
    return COLOUR_SYNONYMS[name] if name in COLOUR_SYNONYMS and rng.random() < 0.2 else name


def _pick(rng: Rng, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
