"""The words for patterns, accessories and kinds in captions."""

from training.toybox.scenes.individuals.traits import KINDS
from training.toybox.scenes.items import THINGS

PATTERN_WORDS: dict[str, tuple[tuple[bool, str], ...]] = {
    "stripes": ((False, "stripes"),),
    "spots": ((False, "spots"),),
    "patches": ((False, "patches"),),
    "bib": ((True, "bib"), (True, "chest"), (True, "belly")),
    "socks": ((False, "socks"), (False, "paws")),
    "zigzag": ((True, "zigzag"),),
    "rings": ((False, "rings"),),
    "checks": ((False, "checks"), (False, "squares")),
    "dots": ((False, "dots"), (False, "polka dots")),
    "band": ((True, "band"),),
}
"""The nouns of each pattern, and whether they take an article."""

ADJECTIVES = {
    "stripes": "striped",
    "spots": "spotted",
    "patches": "patched",
    "checks": "checkered",
    "dots": "dotted",
    "curly": "curly",
}

PLURAL = ("glasses", "handles", "flowers", "antennae", "wheels")
WORN = ("collar", "bow tie", "scarf", "bandana", "cap", "bow", "top hat", "crown", "glasses")
"""The accessories that an animal or a robot wears."""

COLOUR_SYNONYMS = {"gray": "grey"}
ACCESSORY_SYNONYMS = {"top hat": "hat"}


def synonyms(kind: str) -> tuple[str, ...]:
    """The other words for a kind or a thing.

    Raises `KeyError` for a name that is neither in `KINDS` nor in `THINGS`.
    """
    return KINDS[kind].synonyms if kind in KINDS else THINGS[kind].synonyms


def general_word(kind: str) -> str:
    """The general word in captions that do not name the kind."""
    return "animal" if kind in KINDS and KINDS[kind].animal else "object"


def with_article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeio' or words.startswith('umbr') else 'a'} {words}"
