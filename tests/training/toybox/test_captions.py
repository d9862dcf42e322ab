import re

import numpy as np
import pytest

from training.toybox.captions import caption, with_article
from training.toybox.render import Item, Marking, Scene, sample_scene
from training.toybox.world import BACKGROUNDS, COLOURS, THINGS

CAT = Item("cat", None, (0.25, 0.5), 0.4)
VASE = Item("vase", "blue", (0.75, 0.5), 0.4)


def captions(scene: Scene, count: int = 300) -> list[str]:
    rng = np.random.default_rng(0)
    return [caption(scene, rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [("cat", "a cat"), ("apple", "an apple"), ("orange cup", "an orange cup"), ("umbrella", "an umbrella"),
     ("unicorn", "a unicorn"), ("ice cream", "an ice cream"), ("elephant", "an elephant")],
)  # fmt: skip
def test_articles(words: str, expected: str):
    assert with_article(words) == expected


def test_every_thing_and_colour_of_a_scene_is_said():
    rng = np.random.default_rng(1)
    for scene in (sample_scene(rng) for _ in range(500)):
        text = caption(scene, rng)
        for item in scene.items:
            thing = THINGS[item.thing]
            assert any(re.search(rf"\b{re.escape(word)}\b", text) for word in (thing.name, *thing.synonyms)), text
            assert item.colour is None or item.colour in text.split()
        said = {colour for colour in COLOURS if colour in text.split()}
        assert said <= {*(item.colour for item in scene.items), scene.background.removeprefix("plain ")}, text


def test_a_scene_has_many_captions():
    texts = captions(Scene((CAT, VASE), "beach", 0))
    assert len(set(texts)) > 100
    assert captions(Scene((CAT, VASE), "beach", 0)) == texts
    assert "a cat" in " ".join(texts)
    assert "a kitten" in " ".join(texts)


def test_the_background_is_said_mostly_but_not_always():
    texts = captions(Scene((CAT,), "snow", 0))
    said = np.mean([any(phrase in text for phrase in BACKGROUNDS["snow"].phrases) for text in texts])
    assert 0.7 < said < 0.95


def test_an_empty_scene_is_called_empty():
    for text in captions(Scene((), "beach", 0), 30):
        assert re.match(r"an empty scene|nothing|the view", text)
        assert any(text.endswith(phrase) for phrase in BACKGROUNDS["beach"].phrases)


@pytest.mark.parametrize("items", [(CAT, VASE), (VASE, CAT)])
def test_left_is_left_and_right_is_right(items: tuple[Item, Item]):
    texts = captions(Scene(items, "beach", 0))
    cat, vase = r"a (?:cat|kitten)", r"a blue (?:vase|amphora)"
    sides = [text for text in texts if "left" in text or "right" in text]
    assert 20 < len(sides) < 150
    for text in sides:
        told = rf"{cat} to the left of {vase}|{vase} to the right of {cat}|{cat} on the left and {vase} on the right"
        assert re.search(told, text), text


def test_markings_are_said():
    marked = Item("cat", "red", (0.5, 0.5), 0.5, marking=Marking("stripes", "black", 0))
    half = Item("vase", None, (0.5, 0.5), 0.5, marking=Marking("half", "white", 0))
    assert all("with black stripes" in text for text in captions(Scene((marked,), "beach", 0), 20))
    assert all("with a white half" in text for text in captions(Scene((half,), "beach", 0), 20))
