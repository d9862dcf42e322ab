from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from training.toybox.sample_concepts.pen import Pose
from training.toybox.scenes.dataset import to_signal
from training.toybox.scenes.individuals.traits import Individual
from training.toybox.scenes.render import Item, Scene, Tinted, draw_with_placements
from training.toybox.stages import detector, detector_training
from training.toybox.stages.detector import ATTRIBUTES, BARE, GRID, DetectedItem, Detection, Detector, Logits, detect
from training.toybox.stages.detector_training import augmented, detector_loss, focal_loss, mirrored, targets
from training.toybox.stages.masked_loss import IGNORE_INDEX

CAT = Individual("cat", "red", "stripes", "white", "scarf", "blue", 5)
POSE = Pose(0, 0, 0, False, False)
LEFT, RIGHT = (Item(CAT, (0.0, 0.5), 0.5, (0.5, 0.5), POSE), Item(Tinted("apple"), (0.5, 1.0), 0.4, (0.5, 0.5)))
SCENE = Scene((LEFT, RIGHT), "beach", 0)
EMPTY = Scene((), "beach", 0)


def wanted_for(*scenes: Scene) -> dict[str, torch.Tensor]:
    return targets(scenes, [draw_with_placements(scene)[1] for scene in scenes])


def signal_of(*scenes: Scene) -> torch.Tensor:
    levels = np.stack([np.asarray(draw_with_placements(scene)[0]) for scene in scenes])
    return to_signal(torch.from_numpy(levels).permute(0, 3, 1, 2))


def test_centres_are_hot_and_say_what_is_there():
    wanted = wanted_for(SCENE, EMPTY)
    peaks = (wanted["heat"][0] == 1).nonzero().tolist()
    assert len(peaks) == 2
    assert wanted["heat"][1].max() == 0
    (_, left), (_, right) = sorted(peaks, key=lambda peak: peak[1])
    assert left < GRID / 2 < right
    for name, value in (("kind", "cat"), ("colour", "red"), ("pattern", "stripes"), ("accessory", "scarf")):
        row, column = min(peaks, key=lambda peak: peak[1])
        assert ATTRIBUTES[name][wanted[name][0, row, column]] == value
    row, column = max(peaks, key=lambda peak: peak[1])
    assert ATTRIBUTES["kind"][wanted["kind"][0, row, column]] == "apple"
    for name in ATTRIBUTES:
        assert (wanted[name][1] == IGNORE_INDEX).all()
        assert (wanted[name][0] != IGNORE_INDEX).sum() == (18 if name == "kind" else 9)
    assert (wanted["background"] == detector.BACKGROUND_NAMES.index("beach")).all()


def test_the_targets_of_a_mirror_image_are_those_of_the_mirrored_picture():
    wanted = wanted_for(SCENE)
    turned = mirrored(wanted)
    assert torch.equal(turned["heat"], wanted["heat"].flip(-1))
    assert not torch.equal(turned["kind"], wanted["kind"])
    assert torch.equal(turned["background"], wanted["background"])


def test_an_animal_without_an_accessory_gets_the_question_and_an_object_does_not():
    bare = replace(LEFT, subject=replace(CAT, accessory=None, accessory_colour=None))
    wanted = wanted_for(Scene((bare,), "beach", 0))["accessory"]
    assert set(wanted[wanted != IGNORE_INDEX].tolist()) == {ATTRIBUTES["accessory"].index(BARE)}
    assert (wanted_for(Scene((RIGHT,), "beach", 0))["accessory"] == IGNORE_INDEX).all()


def test_the_focal_loss_wants_heat_at_centres_alone():
    heat = wanted_for(SCENE)["heat"]
    right = torch.where(heat == 1, 8.0, -8.0)
    assert focal_loss(right, heat) < 0.01
    assert focal_loss(-right, heat) > 5
    assert focal_loss(torch.full_like(heat, -8.0), heat) > 5
    assert focal_loss(torch.full((1, GRID, GRID), -8.0), torch.zeros(1, GRID, GRID)) < 0.01


class Stub(Detector):
    """Sees a red striped cat on the left and, more clearly, a blue plain vase on the right, whatever it is shown."""

    def forward(self, pictures: torch.Tensor) -> Logits:
        count = len(pictures)
        heat = torch.full((count, GRID, GRID), -9.0)
        heat[:, 8, 4], heat[:, 8, 5], heat[:, 8, 12], heat[:, 0, 0] = 1.0, 0.5, 2.0, -2.0
        parts = {name: torch.zeros(count, len(names), GRID, GRID) for name, names in ATTRIBUTES.items()}
        for name, value, column in (
            ("kind", "cat", 4), ("colour", "red", 4), ("pattern", "stripes", 4), ("second_colour", "white", 4),
            ("accessory", "scarf", 4), ("kind", "vase", 12), ("colour", "blue", 12), ("pattern", "plain", 12),
            ("second_colour", "white", 12), ("accessory", BARE, 12),
        ):  # fmt: skip
            parts[name][:, ATTRIBUTES[name].index(value), 8, column] = 5
        places = torch.zeros(count, len(detector.BACKGROUND_NAMES))
        places[:, detector.BACKGROUND_NAMES.index("beach")] = 1
        return Logits(heat, parts, places)


def test_a_detection_reads_attributes_at_the_peaks():
    found = detect(Stub(), [Image.new("RGB", (side, side)) for side in (128, 32)] * 40)
    assert len(found) == 80
    vase = DetectedItem("vase", "blue", "plain", None, None, 12.5 / 16, 8.5 / 16)
    cat = DetectedItem("cat", "red", "stripes", "white", "scarf", 4.5 / 16, 8.5 / 16)
    assert set(found) == {Detection((vase, cat), "beach")}
    assert (found[0].place(cat), found[0].place(vase)) == ("left", "right")
    assert [Detection((replace(cat, x=x),), "beach").place(replace(cat, x=x)) for x in (0.1, 0.5, 0.9)] == [
        "left", "middle", "right"
    ]  # fmt: skip
    third = replace(cat, x=0.5)
    assert Detection((vase, cat, third), "beach").place(third) == "middle"


def test_augmentation_is_mild():
    signal = signal_of(SCENE).repeat(8, 1, 1, 1)
    changed = augmented(signal, np.random.default_rng(0))
    assert changed.shape == signal.shape
    assert 0.01 < (changed - signal).abs().mean() < 0.25
    assert not torch.equal(changed[0], changed[-1])


def test_the_loss_of_the_detector_falls():
    torch.manual_seed(0)
    detector, signal, wanted = Detector(), signal_of(SCENE, EMPTY), wanted_for(SCENE, EMPTY)
    optimizer = torch.optim.AdamW(detector.parameters(), 2e-3)
    losses = []
    for _ in range(8):
        loss = detector_loss(detector, signal, wanted)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_training_resumes_exactly(small_models, resumes_exactly):
    resumes_exactly(lambda folder, steps: detector_training.train(folder, "cpu", steps))


def test_a_detector_is_stored_in_half_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(detector, "WEIGHTS", tmp_path / "detector.safetensors")
    torch.manual_seed(0)
    made = Detector().eval()
    with pytest.raises(FileNotFoundError):
        detector.load()
    detector.write(made)
    assert detector.WEIGHTS.stat().st_size < 3.1e6
    again, picture = detector.load(), torch.zeros(1, 3, 128, 128)
    assert not again.training
    torch.testing.assert_close(again(picture).heat, made(picture).heat, rtol=0.02, atol=0.02)
