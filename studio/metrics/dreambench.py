"""DreamBench's prompts and metrics (Ruiz et al., 2023, "DreamBooth", section 4.1 and its data set, CC-BY-4.0)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from studio.metrics.clip import Scorer
from studio.metrics.dino import Backbone

Kind = Literal["object", "live"]

_PLACES = (
    "in the jungle", "in the snow", "on the beach", "on a cobblestone street", "on top of pink fabric",
    "on top of a wooden floor", "with a city in the background", "with a mountain in the background",
    "with a blue house in the background", "on top of a purple rug in a forest",
)  # fmt: skip
_OBJECT = (
    "with a wheat field in the background", "with a tree and autumn leaves in the background",
    "with the Eiffel Tower in the background", "floating on top of water", "floating in an ocean of milk",
    "on top of green grass with sunflowers around it", "on top of a mirror",
    "on top of the sidewalk in a crowded street", "on top of a dirt road", "on top of a white rug",
)  # fmt: skip
_LIVE = (
    "wearing a red hat", "wearing a santa hat", "wearing a rainbow scarf", "wearing a black top hat and a monocle",
    "in a chef outfit", "in a firefighter outfit", "in a police outfit", "wearing pink glasses",
    "wearing a yellow shirt", "in a purple wizard outfit",
)  # fmt: skip
_LOOKS = ("red", "purple", "shiny", "wet", "cube shaped")
LIVING = frozenset({
    "animal", "bear", "bird", "boy", "cat", "chicken", "child", "cow", "dog", "duck", "elephant", "fish", "fox",
    "girl", "horse", "kitten", "lion", "man", "monkey", "mouse", "panda", "penguin", "person", "pig", "puppy",
    "rabbit", "sheep", "tiger", "turtle", "woman",
})  # fmt: skip
"""Class words that count as live subjects by default."""
PICTURES = 4
"""Pictures of each prompt."""


def kind_of(class_word: str) -> Kind:
    """Whether a class word names something alive."""
    return "live" if set(class_word.lower().split()) & LIVING else "object"


def prompts(name: str, kind: Kind) -> list[str]:
    """The 25 prompts of a kind about something, as in "a {name} in the jungle"."""
    places = [*_PLACES, *(_LIVE if kind == "live" else _OBJECT)]
    return [*(f"a {name} {place}" for place in places), *(f"a {look} {name}" for look in _LOOKS)]


@dataclass(frozen=True)
class Measured:
    """The metrics of a prompt's pictures, or of all: mean cosines with the real pictures, and with the prompt."""

    prompt: str
    image: float
    text: float
    dino: float | None


def measure(
    generate: Callable[[str], Sequence[Image.Image]],
    token: str,
    class_word: str,
    real: Sequence[Image.Image],
    kind: Kind,
    scorer: Scorer,
    dino: Backbone | None = None,
) -> Iterator[Measured]:
    """Yields every prompt's metrics. `generate` returns the pictures of a prompt that names the token.

    CLIP-I and DINO are the mean cosine of every picture with every real one; CLIP-T compares with the prompt in which
    the class word replaces the token.
    """
    own, own_dino = scorer.embed_pictures(real), dino and dino.embed_pictures(real)
    for named, plain in zip(prompts(token, kind), prompts(class_word, kind), strict=True):
        pictures = generate(named)
        embedded = scorer.embed_pictures(pictures)
        alike = None
        if dino is not None and own_dino is not None:
            alike = float((dino.embed_pictures(pictures) @ own_dino.T).mean())
        text = float((embedded @ scorer.embed_texts([plain])[0]).mean())
        yield Measured(plain, float((embedded @ own.T).mean()), text, alike)


def mean(rows: Sequence[Measured]) -> Measured:
    """The mean over prompts, which have equally many pictures."""
    count, dinos = len(rows), [row.dino for row in rows if row.dino is not None]
    return Measured(
        "mean",
        sum(row.image for row in rows) / count,
        sum(row.text for row in rows) / count,
        sum(dinos) / len(dinos) if dinos else None,
    )
