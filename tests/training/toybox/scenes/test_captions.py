import re
from dataclasses import fields

import numpy as np
import pytest

from training.toybox.sample_concepts.pen import Pose
from training.toybox.scenes.captions import Caption, CaptionedItem, caption
from training.toybox.scenes.individuals.traits import KINDS, SAMPLE_TRAITS, Individual
from training.toybox.scenes.items import BACKGROUNDS, COLOURS
from training.toybox.scenes.render import Item, Scene, Tinted, sample_scene
from training.toybox.scenes.wording import (
    ACCESSORY_SYNONYMS,
    ADJECTIVES,
    COLOUR_SYNONYMS,
    PATTERN_WORDS,
    synonyms,
    with_article,
)

POSE = Pose(head=0, swing=0, lean=0, flipped=False, second_stance=False)
LEFT, MIDDLE, RIGHT = (0.0, 0.35), (0.32, 0.68), (0.65, 1.0)
CAT = Item(SAMPLE_TRAITS["saffron"], LEFT, 0.4, (0.5, 0.5), POSE)
VASE = Item(SAMPLE_TRAITS["rosa"], RIGHT, 0.4, (0.5, 0.5), POSE)
APPLE = Item(Tinted("apple", "green"), MIDDLE, 0.4, (0.5, 0.5))


def captions(scene: Scene, count: int = 300) -> list[Caption]:
    rng = np.random.default_rng(0)
    return [caption(scene, rng) for _ in range(count)]


def texts(scene: Scene, count: int = 300) -> list[str]:
    return [described.text for described in captions(scene, count)]


def spellings(colour: str) -> set[str]:
    return {colour, COLOUR_SYNONYMS.get(colour, colour)}


@pytest.mark.parametrize(
    ("words", "expected"),
    [("cat", "a cat"), ("apple", "an apple"), ("orange cup", "an orange cup"), ("umbrella", "an umbrella"),
     ("owl", "an owl"), ("green owl", "a green owl"), ("elephant", "an elephant")],
)  # fmt: skip
def test_articles(words: str, expected: str):
    assert with_article(words) == expected


def test_what_is_said_is_true_and_stands_in_the_text():
    rng = np.random.default_rng(1)
    for scene in (sample_scene(rng) for _ in range(1500)):
        described = caption(scene, rng)
        words = set(described.text.replace(",", "").split())
        assert len(described.items) == len(scene.items)
        for item, captioned in zip(scene.items, described.items, strict=True):
            if captioned.kind:
                assert captioned.kind == item.kind
                assert any(
                    re.search(rf"\b{word}\b", described.text) for word in (captioned.kind, *synonyms(captioned.kind))
                )
            for name in ("colour", "pattern", "second_colour", "accessory", "accessory_colour"):
                value = getattr(captioned, name)
                assert value in (None, getattr(item.subject, name, None)), (described, name)
            for colour in (captioned.colour, captioned.second_colour, captioned.accessory_colour):
                assert colour is None or spellings(colour) & words, described
            if captioned.pattern:
                nouns = [noun for _, noun in PATTERN_WORDS.get(captioned.pattern, ())]
                nouns.append(ADJECTIVES.get(captioned.pattern, nouns[0] if nouns else captioned.pattern))
                assert any(word in described.text for word in nouns), described
            if captioned.accessory not in (None, "one eye"):
                assert ACCESSORY_SYNONYMS.get(captioned.accessory, captioned.accessory) in described.text, described


def test_no_colour_stands_in_the_text_that_is_not_said():
    rng = np.random.default_rng(2)
    for scene in (sample_scene(rng) for _ in range(1500)):
        described = caption(scene, rng)
        words = set(described.text.replace(",", "").split())
        captioned = {c for s in described.items for c in (s.colour, s.second_colour, s.accessory_colour) if c}
        if described.background:
            captioned.add(described.background.removeprefix("plain "))
        assert {name for name in COLOURS if spellings(name) & words} <= captioned, described


def test_everything_is_said_and_left_out_at_times():
    rng = np.random.default_rng(3)
    captioned = [fact for _ in range(2500) for fact in caption(sample_scene(rng), rng).items]
    for field in fields(CaptionedItem):
        share = np.mean([getattr(fact, field.name) is not None for fact in captioned])
        assert 0.12 < share < (1 if field.name == "kind" else 0.85), field.name
    assert {fact.kind for fact in captioned} > set(KINDS)
    assert {fact.side for fact in captioned} == {None, "left", "middle", "right"}


def test_common_prompts_are_among_the_captions():
    alone = " | ".join(texts(Scene((CAT,), "beach", 0), 3000))
    for text in ("a cat", "a photo of a cat on the beach", "an orange cat at the beach", "a kitten on the beach",
                 "a painting of an orange cat", "a cat wearing a green collar on"):  # fmt: skip
        assert f"{text} " in f"{alone} ", text
    together = texts(Scene((CAT, VASE), "beach", 0), 3000)
    assert "a cat and a vase" in " | ".join(together)
    assert len(set(together)) > 1000
    assert captions(Scene((CAT, VASE), "beach", 0)) == captions(Scene((CAT, VASE), "beach", 0))


def test_a_full_caption_says_all_of_an_individual():
    fullest = CaptionedItem("cat", "orange", "stripes", "brown", "collar", "green")
    full = {described.text for described in captions(Scene((CAT,), "snow", 0), 4000) if described.items == (fullest,)}
    assert "an orange cat with brown stripes wearing a green collar in the snow" in full
    assert "an orange and brown striped cat with a green collar in the snow" in full
    robot = Individual("robot", "red", "plain", None, "one eye", "white", 0)
    seen = " ".join(texts(Scene((Item(robot, LEFT, 0.4, (0.5, 0.5), POSE),), "snow", 0)))
    assert "a red robot with one white eye" in seen
    assert "with a one" not in seen


def test_the_background_is_said_mostly_but_not_always():
    described = captions(Scene((CAT,), "snow", 0))
    assert 0.7 < np.mean([one.background == "snow" for one in described]) < 0.95
    for one in described:
        assert (one.background is None) != any(phrase in one.text for phrase in BACKGROUNDS["snow"].phrases)


def test_an_empty_scene_is_called_empty():
    for described in captions(Scene((), "beach", 0), 30):
        assert re.match(r"an empty scene|nothing|the view", described.text)
        assert described.items == ()
        assert described.background == "beach"


@pytest.mark.parametrize("items", [(CAT, VASE), (VASE, CAT)])
def test_left_is_left_and_right_is_right(items: tuple[Item, Item]):
    described = captions(Scene(items, "beach", 0), 600)
    cat, vase = items.index(CAT), items.index(VASE)
    sided = [one for one in described if re.search(r"\b(left|right)\b", one.text)]
    assert 0.35 < len(sided) / len(described) < 0.65
    for one in described:
        assert (one in sided) == any(captioned.side for captioned in one.items)
        assert one.items[cat].side in (None, "left")
        assert one.items[vase].side in (None, "right")
    assert any(one.items[cat].side and not one.items[vase].side for one in sided)
    relations = [one.text for one in sided if "to the left of" in one.text]
    assert relations
    for text in relations:
        assert re.search(r"\b(cat|kitten|animal)\b.* to the left of .*\b(vase|amphora|object)\b", text), text


def test_the_middle_one_is_between_the_others():
    described = captions(Scene((APPLE, VASE, CAT), "beach", 0), 600)
    between = [one for one in described if "between" in one.text]
    assert between
    for one in between:
        assert [captioned.side for captioned in one.items] == ["middle", None, None]
        assert re.search(r"a green apple between ", one.text)
    rows = [one for one in described if "from left to right" in one.text]
    assert rows
    assert {tuple(captioned.side for captioned in one.items) for one in rows} == {("middle", "right", "left")}


def test_two_of_one_kind_are_told_apart_by_colour():
    other = Item(Individual("cat", "black", "plain", None, None, None, 1), RIGHT, 0.4, (0.5, 0.5), POSE)
    for described in captions(Scene((CAT, other), "beach", 0)):
        assert [(captioned.kind, captioned.colour) for captioned in described.items] == [
            ("cat", "orange"),
            ("cat", "black"),
        ]
