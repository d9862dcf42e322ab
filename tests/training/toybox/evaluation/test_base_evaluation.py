from collections import Counter

import numpy as np
import pytest
import torch

from studio.bundled import TOYBOX
from studio.metrics.clip import load_scorer
from studio.models.base_model import load_base
from studio.models.sampling_settings import SamplingSettings
from training.toybox.evaluation import base_evaluation, prompts
from training.toybox.evaluation.base_evaluation import (
    accuracy,
    detector_accuracy,
    distances,
    frechet_distance,
    reconstructed,
)
from training.toybox.evaluation.prompts import (
    CATEGORIES,
    EvaluationPrompt,
    RequestedItem,
    about,
    description,
    sheet_prompts,
)
from training.toybox.scenes.dataset import TEST_SEED, scenes
from training.toybox.scenes.individuals.traits import KINDS, Individual
from training.toybox.scenes.items import BACKGROUNDS, COLOURS, TINTS
from training.toybox.scenes.render import KIND_NAMES, Scene, draw_scene
from training.toybox.stages.detector import DetectedItem, Detection, Detector, item_attributes

CAT = DetectedItem("cat", "red", "stripes", "white", "scarf", 0.2, 0.5)
VASE = DetectedItem("vase", "blue", "plain", None, None, 0.8, 0.5)
SEEN = Detection((CAT, VASE), "beach")


def test_questions_cover_every_kind_and_attribute():
    asked = prompts.evaluation_prompts()
    counts = Counter(question.category for question in asked)
    assert set(counts) == set(CATEGORIES)
    for category in ("one_object", "colour", "two_objects", "position"):
        assert {q.asked[0].kind for q in asked if q.category == category} == set(KIND_NAMES)
    assert Counter(q.asked[0].kind for q in asked if q.category == "attributes") == dict.fromkeys(KINDS, 3)
    assert (
        {*TINTS} <= {q.asked[0].colour for q in prompts.evaluation_prompts(4) if q.category == "colour"} == {*COLOURS}
    )
    assert {q.background for q in asked if q.category == "background"} == set(BACKGROUNDS)
    assert {q.asked[0].side for q in asked if q.category == "position"} == {"left", "right"}
    assert len(prompts.evaluation_prompts(2)) == 2 * len(asked)
    assert prompts.evaluation_prompts() == asked != prompts.evaluation_prompts(seed=1)


def test_prompts_say_what_they_ask_for():
    for question in prompts.evaluation_prompts():
        for item in question.asked:
            assert item.kind in question.prompt
            for words in (item.colour, item.accessory):
                assert words is None or words in question.prompt
        if question.category in ("two_objects", "position"):
            assert question.asked[0].kind != question.asked[1].kind
        if question.category == "position":
            first, second = question.asked
            assert f" {first.kind} to the {first.side} of " in question.prompt
            assert question.prompt.endswith(second.kind)
            assert {first.side, second.side} == {"left", "right"}
        if question.background:
            assert any(phrase in question.prompt for phrase in BACKGROUNDS[question.background].phrases)


def test_an_individual_is_described_with_all_that_has_a_name():
    cat = Individual("cat", "red", "stripes", "white", "glasses", "blue", 0)
    assert description(cat) == "a red cat with white stripes and blue glasses"
    robot = Individual("robot", "green", "plain", None, "one eye", "white", 0)
    assert description(robot) == "a green robot with one white eye"
    assert description(Individual("dog", "cream", "curly", None, None, None, 0)) == "a curly cream dog"
    vase = Individual("vase", "teal", "zigzag", "white", "lid", "red", 0)
    assert description(vase) == "a teal vase with a white zigzag and a red lid"


@pytest.mark.parametrize(
    ("asked", "background", "right"),
    [
        ((RequestedItem("cat"),), None, True),
        ((RequestedItem("vase"),), None, False),  # it was seen, but not as the clearest
        ((RequestedItem("cat", "red", "stripes", "scarf"),), None, True),
        ((RequestedItem("cat", "blue"),), None, False),
        ((RequestedItem("cat", pattern="spots"),), None, False),
        ((RequestedItem("cat", accessory="cap"),), None, False),
        ((RequestedItem("vase"), RequestedItem("cat")), None, True),
        ((RequestedItem("cat", "blue"), RequestedItem("vase", "red")), None, False),
        ((RequestedItem("cat"), RequestedItem("dog")), None, False),
        ((RequestedItem("cat"), RequestedItem("cat")), None, False),
        ((RequestedItem("cat", side="left"), RequestedItem("vase", side="right")), None, True),
        ((RequestedItem("cat", side="right"), RequestedItem("vase", side="left")), None, False),
        ((RequestedItem("cat"), RequestedItem("vase"), RequestedItem("vase")), None, False),
        ((), "beach", True),
        ((), "snow", False),
        ((RequestedItem("cat"),), "snow", False),
    ],
)
def test_an_evaluation_prompt_is_answered_by_its_requested_items(
    asked: tuple[RequestedItem, ...], background: str | None, right: bool
):
    assert EvaluationPrompt("any", "", asked, background).answered(SEEN) is right


def test_accuracy_is_the_share_of_answers_by_category():
    cat, dog = (EvaluationPrompt("one_object", "", (RequestedItem(kind),)) for kind in ("cat", "dog"))
    snow = EvaluationPrompt("background", "", (), "snow")
    assert accuracy([cat, dog, cat, dog, snow], [SEEN] * 5) == {"one_object": 0.5, "background": 0.0}
    with pytest.raises(ValueError, match="shorter"):
        accuracy([cat, dog], [SEEN])


def _truth(scene: Scene) -> Detection:
    items = []
    for item in scene.items:
        known = item_attributes(item)
        accessory = None if known["accessory"] == "none" else known["accessory"]
        items.append(DetectedItem(item.kind, item.colour or "red", known["pattern"] or "plain", known["second_colour"],
                           accessory, item.centre[0], item.centre[1]))  # fmt: skip
    return Detection(tuple(items), scene.background)


def test_a_perfect_detector_is_always_right_and_another_is_not(monkeypatch):
    truth = [_truth(scene) for scene in scenes(0, TEST_SEED, 80)]
    monkeypatch.setattr(base_evaluation, "draw_scene", lambda scene: scene)
    monkeypatch.setattr(base_evaluation, "detect", lambda _, pictures: truth[: len(pictures)])
    assert detector_accuracy(Detector(), 80) == dict.fromkeys(CATEGORIES, 1.0)
    monkeypatch.setattr(base_evaluation, "detect", lambda _, pictures: [SEEN] * len(pictures))
    assert max(detector_accuracy(Detector(), 80).values()) < 0.3


def test_an_untrained_detector_is_measured_on_real_renders():
    torch.manual_seed(0)
    measured = detector_accuracy(Detector().eval(), 12)
    assert set(measured) <= set(CATEGORIES)
    assert all(0 <= value <= 1 for value in measured.values())


def test_an_empty_scene_has_only_a_question_about_its_background():
    assert [q.category for q in about(Scene((), "snow", 0))] == ["background"]


def test_the_frechet_distance_of_gaussians():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(4000, 6))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(one, one + 0.5) == pytest.approx(6 * 0.25, abs=1e-6)
    assert frechet_distance(one, 3 * one) == pytest.approx(6 * (3 - 1) ** 2, rel=0.1)
    assert frechet_distance(one, 3 * one) == pytest.approx(frechet_distance(3 * one, one))


def test_the_distances_of_the_bundled_base(monkeypatch):
    monkeypatch.setattr(base_evaluation, "RENDERS", 24)
    found = distances(
        load_base(str(TOYBOX), device="cpu"), load_scorer(), SamplingSettings(num_inference_steps=1, batch_size=4), 8
    )
    assert 0 < found.reconstructed < found.generated


def test_an_autoencoders_copy_is_near_the_picture():
    base = load_base(str(TOYBOX), device="cpu")
    pictures = [draw_scene(scene) for scene in scenes(0, count=3)]
    copies = reconstructed(base, pictures, 2)
    assert [copy.size for copy in copies] == [(128, 128)] * 3
    for copy, picture in zip(copies, pictures, strict=True):
        assert np.abs(np.asarray(copy, float) - np.asarray(picture, float)).mean() < 25


def test_the_sheet_cycles_through_kinds_and_colours():
    prompts = sheet_prompts()
    assert len(prompts) == 48
    assert prompts == sheet_prompts() != sheet_prompts(seed=1)
    assert len(set(prompts)) > 40
