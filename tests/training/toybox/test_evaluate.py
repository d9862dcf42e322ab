from collections import Counter

import pytest
import torch

from training.toybox import evaluate
from training.toybox.evaluate import CATEGORIES, Question, accuracy, judge_accuracy, questions
from training.toybox.judges import Judge, Verdict
from training.toybox.renders import TEST_SEED, scenes
from training.toybox.world import BACKGROUNDS, COLOURS, THINGS

SEEN = Verdict(("cat", "vase"), ("red", "blue"), "beach")


def test_everything_in_the_world_is_asked_for():
    asked = questions()
    counts = Counter(question.category for question in asked)
    assert set(counts) == set(CATEGORIES)
    assert counts["one_object"] == counts["colour"] == counts["two_objects"] == len(THINGS)
    assert counts["background"] == 4 * len(BACKGROUNDS)
    assert {q.things[0][0] for q in asked if q.category == "one_object"} == set(THINGS)
    assert {q.things[0][1] for q in asked if q.category == "colour"} == set(COLOURS)
    assert {q.background for q in asked if q.category == "background"} == set(BACKGROUNDS)
    assert len(questions(2)) == 2 * len(asked)
    assert questions() == asked != questions(seed=1)


def test_prompts_say_what_they_ask_for():
    for question in questions():
        for thing, colour in question.things:
            assert (f"{colour} {thing}" if colour else thing) in question.prompt
        if question.category == "two_objects":
            assert question.things[0] != question.things[1]
        if question.background:
            assert any(phrase in question.prompt for phrase in BACKGROUNDS[question.background].phrases)


@pytest.mark.parametrize(
    ("things", "background", "right"),
    [
        ((("cat", None),), None, True),
        ((("vase", None),), None, False),  # it was seen, but not as the likeliest
        ((("cat", "red"),), None, True),
        ((("cat", "blue"),), None, False),
        ((("cat", None), ("vase", None)), None, True),
        ((("vase", None), ("cat", None)), None, True),
        ((("cat", "blue"), ("vase", "red")), None, False),
        ((("cat", None), ("dog", None)), None, False),
        ((), "beach", True),
        ((), "snow", False),
        ((("cat", None),), "snow", False),
    ],
)
def test_a_question_is_answered_by_what_was_asked_for(things, background: str | None, right: bool):
    assert Question("any", "", things, background).answered(SEEN) is right


def test_accuracy_is_the_share_of_answers_by_category():
    cat, dog = (Question("one_object", "", ((thing, None),)) for thing in ("cat", "dog"))
    snow = Question("background", "", (), "snow")
    assert accuracy([cat, dog, cat, dog, snow], [SEEN] * 5) == {"one_object": 0.5, "background": 0.0}
    with pytest.raises(ValueError, match="shorter"):
        accuracy([cat, dog], [SEEN])


def test_a_judge_that_knows_the_scenes_is_always_right_and_another_is_not(monkeypatch):
    unseen = [scene for scene in scenes(0, TEST_SEED, 60) if scene.items]
    truth = [
        Verdict(
            (s.items[0].thing, s.items[-1].thing),
            (s.items[0].colour or "red", s.items[-1].colour or "red"),
            s.background,
        )
        for s in unseen
    ]
    monkeypatch.setattr(evaluate, "draw_scene", lambda scene: scene)
    monkeypatch.setattr(evaluate, "judge_pictures", lambda _, pictures: truth[: len(pictures)])
    assert judge_accuracy(Judge(), 60) == dict.fromkeys(CATEGORIES, 1.0)
    monkeypatch.setattr(evaluate, "judge_pictures", lambda _, pictures: [SEEN] * len(pictures))
    assert max(judge_accuracy(Judge(), 60).values()) < 0.3


def test_an_untrained_judge_is_measured_on_real_renders(small_world):
    torch.manual_seed(0)
    measured = judge_accuracy(Judge().eval())
    assert set(measured) <= set(CATEGORIES)
    assert all(0 <= value <= 1 for value in measured.values())
