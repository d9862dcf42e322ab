"""Traits of individuals: kinds, patterns and accessories by name, and the held-out combinations."""

from dataclasses import dataclass

from training.toybox.scenes.backgrounds import Rng
from training.toybox.scenes.individuals.colours import contrasting_colours
from training.toybox.scenes.items import COLOURS


@dataclass(frozen=True)
class Individual:
    """Everything that determines an individual's appearance.

    `colour`, `second_colour` (that of the pattern) and `accessory_colour` are names of `items.COLOURS`. A pattern
    of `UNCOLOURED` has no second colour. The seed determines unnamed details: proportions, ears, eyes, the layout of
    spots, shades. The same traits with another seed are another individual.
    """

    kind: str
    colour: str
    pattern: str
    second_colour: str | None
    accessory: str | None
    accessory_colour: str | None
    seed: int

    @property
    def key(self) -> tuple[str | None, ...]:
        """The five traits by which the samples are held out."""
        return self.kind, self.colour, self.pattern, self.second_colour, self.accessory


@dataclass(frozen=True)
class Kind:
    """The possible patterns and accessories of a kind, and the words for the kind."""

    name: str
    patterns: tuple[str, ...]
    accessories: tuple[str, ...]
    synonyms: tuple[str, ...] = ()
    animal: bool = False


UNCOLOURED = ("plain", "curly")
"""The patterns without a second colour."""
_COAT = ("plain", "stripes", "spots", "patches", "bib", "socks")
_SURFACE = ("plain", "stripes", "dots", "checks", "band", "zigzag")
_WEAR = ("collar", "bow tie", "scarf", "bandana", "cap", "bow", "top hat", "crown", "glasses")
_EMBLEMS = ("star", "heart", "flower")

KINDS = {
    kind.name: kind
    for kind in (
        Kind("cat", (*_COAT, "curly"), _WEAR, ("kitten",), animal=True),
        Kind("dog", (*_COAT, "curly"), _WEAR, ("puppy",), animal=True),
        Kind("rabbit", _COAT, _WEAR, ("bunny",), animal=True),
        Kind("bear", _COAT, _WEAR, ("teddy bear",), animal=True),
        Kind("owl", ("plain", "stripes", "spots", "bib", "checks"), _WEAR, (), animal=True),
        Kind("fox", _COAT, _WEAR, (), animal=True),
        Kind("vase", (*_SURFACE, "rings"), ("handles", "flowers", "lid", "bow"), ("amphora",)),
        Kind("teapot", (*_SURFACE, "rings"), (*_EMBLEMS, "bow"), ("tea pot",)),
        Kind(
            "robot",
            _SURFACE,
            ("one eye", "visor", "antennae", "chest screen", "wheels", "heart", "top hat", "bow tie"),
            ("android",),
        ),
        Kind("backpack", _SURFACE, (*_EMBLEMS, "pocket", "bow"), ("rucksack",)),
        Kind("car", _SURFACE, (*_EMBLEMS, "suitcase", "surfboard", "flag"), ("automobile",)),
        Kind("house", _SURFACE, ("roof", "chimney", "flag", "awning", "fence"), ("cottage",)),
    )
}
"""The kinds by name."""

PATTERNS = tuple(dict.fromkeys(pattern for kind in KINDS.values() for pattern in kind.patterns))
ACCESSORIES = tuple(dict.fromkeys(accessory for kind in KINDS.values() for accessory in kind.accessories))
ACCESSORY_COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "black", "white")

PLAIN_SHARE, BARE_SHARE = 0.22, 0.35
"""The probability that an individual has no pattern, and no accessory."""

SAMPLE_TRAITS: dict[str, Individual] = {
    "milo": Individual("cat", "black", "bib", "white", "bow tie", "red", 0),
    "saffron": Individual("cat", "orange", "stripes", "brown", "collar", "green", 0),
    "misty": Individual("cat", "gray", "spots", "white", "scarf", "yellow", 0),
    "rex": Individual("dog", "white", "patches", "black", "cap", "yellow", 0),
    "bruno": Individual("dog", "brown", "socks", "cream", "bandana", "blue", 0),
    "biscuit": Individual("dog", "cream", "curly", None, "bow", "pink", 0),
    "azura": Individual("vase", "teal", "zigzag", "white", None, None, 0),
    "rosa": Individual("vase", "pink", "dots", "yellow", "handles", "yellow", 0),
    "onyx": Individual("vase", "black", "rings", "orange", None, None, 0),
    "gizmo": Individual("robot", "green", "plain", None, "one eye", "white", 0),
    "volta": Individual("robot", "yellow", "plain", None, "chest screen", "blue", 0),
    "orbo": Individual("robot", "purple", "plain", None, "visor", "teal", 0),
}
"""The sample concepts (`concepts.samples.SAMPLES`) as traits; their seeds are not used."""

HELD_OUT = frozenset(individual.key for individual in SAMPLE_TRAITS.values())


def is_held_out(individual: Individual) -> bool:
    """Whether it shares a sample's kind, colour, pattern, second colour and accessory."""
    return individual.key in HELD_OUT


def sample_individual(rng: Rng, kind: str | None = None, avoid: tuple[str, ...] = ()) -> Individual:
    """A random individual, of this kind if given, never held out, its main colour none of `avoid`.

    Raises `KeyError` for a kind that is not in `KINDS`.
    """
    chosen = KINDS[kind or _pick(rng, tuple(KINDS))]
    while True:
        individual = _draw(rng, chosen, avoid)
        if not is_held_out(individual):
            return individual


def _draw(rng: Rng, kind: Kind, avoid: tuple[str, ...]) -> Individual:
    colour = _pick(rng, tuple(name for name in COLOURS if name not in avoid))
    pattern = "plain" if rng.random() < PLAIN_SHARE else _pick(rng, kind.patterns[1:])
    second = None if pattern in UNCOLOURED else _pick(rng, contrasting_colours(colour))
    accessory = None if rng.random() < BARE_SHARE else _pick(rng, kind.accessories)
    worn = None
    if accessory:
        worn = _pick(
            rng, tuple(name for name in ACCESSORY_COLOURS if name in contrasting_colours(colour) and name != second)
        )
    return Individual(kind.name, colour, pattern, second, accessory, worn, int(rng.integers(2**31)))


def _pick(rng: Rng, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
