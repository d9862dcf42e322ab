"""Says in words what a scene shows, in many wordings."""

from training.toybox.backgrounds import Rng
from training.toybox.render import Item, Scene
from training.toybox.world import BACKGROUNDS, MARKINGS, THINGS

_OPENINGS = ("", "", "", "a photo of ", "a picture of ", "an image of ", "a drawing of ", "a rendering of ")
_JOINTS = ("{a} and {b}", "{a} and {b}", "{a} and {b}", "{a} next to {b}", "{a} beside {b}", "{a} with {b}")
_SIDES = (
    "{left} to the left of {right}",
    "{right} to the right of {left}",
    "{left} on the left and {right} on the right",
)


def with_article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeio' or words.startswith('umbr') else 'a'} {words}"


def caption(scene: Scene, rng: Rng) -> str:
    """One of the many captions of the scene; a background is left out now and then."""
    phrases = BACKGROUNDS[scene.background].phrases
    place = str(rng.choice(phrases))
    if not scene.items:
        return str(rng.choice([f"an empty scene {place}", f"nothing {place}", f"the view {place}"]))
    subject = _subject(scene.items, rng)
    if rng.random() < 0.15:
        return str(rng.choice(_OPENINGS)) + subject
    if rng.random() < 0.1:
        return f"{place}, {subject}"
    return f"{rng.choice(_OPENINGS)}{subject} {place}"


def _subject(items: tuple[Item, ...], rng: Rng) -> str:
    names = [_name(item, rng) for item in items]
    if len(items) == 1:
        return names[0]
    if rng.random() < 0.2:
        left, right = (0, 1) if items[0].centre[0] < items[1].centre[0] else (1, 0)
        return str(rng.choice(_SIDES)).format(left=names[left], right=names[right])
    first = int(rng.integers(2))
    return str(rng.choice(_JOINTS)).format(a=names[first], b=names[1 - first])


def _name(item: Item, rng: Rng) -> str:
    thing = THINGS[item.thing]
    word = str(rng.choice(thing.synonyms)) if thing.synonyms and rng.random() < 0.15 else thing.name
    phrase = with_article(f"{item.colour} {word}" if item.colour else word)
    if item.marking is None:
        return phrase
    return f"{phrase} with {MARKINGS[item.marking.kind].format(item.marking.colour)}"
