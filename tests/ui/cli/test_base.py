from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from training.toybox.evaluation import base_evaluation, prompts
from training.toybox.evaluation.prompts import CATEGORIES


@pytest.fixture
def few(monkeypatch) -> None:
    """Two evaluation_prompts of each category, four prompts on the sheet, and few renders."""
    every = prompts.evaluation_prompts()
    chosen = [next(q for q in every[start:] if q.category == category) for category in CATEGORIES for start in (0, 180)]
    monkeypatch.setattr(prompts, "evaluation_prompts", lambda rounds=1: chosen * rounds)
    monkeypatch.setattr(prompts, "sheet_prompts", lambda: ["a red cat", "a blue vase at night"] * 2)
    monkeypatch.setattr(base_evaluation, "RENDERS", 24)
    monkeypatch.setattr(base_evaluation, "detector_accuracy", partial(base_evaluation.detector_accuracy, count=24))


def test_a_base_is_measured_and_shown(few, studio, tiny_folder: Path, tmp_path: Path):
    sheet, answers = tmp_path / "sheet.png", tmp_path / "answers.png"
    done = studio(
        "base", "evaluate", "--base", tiny_folder, "--library", tmp_path / "library", "--distance", 4,
        "--prompts-per-category", 2, "--samples", sheet, "--sheet", answers, "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    found = done.document
    assert list(found["accuracy"]) == list(CATEGORIES)
    assert all(0 <= share <= 1 for part in ("accuracy", "detector") for share in found[part].values())
    assert found["prompts"] == 24
    assert found["frechet_distance"]["pictures"] == 4
    assert min(found["frechet_distance"].values()) > 0
    assert sheet.with_suffix(".txt").read_text().splitlines() == ["a red cat", "a blue vase at night"] * 2
    assert Image.open(sheet).width > 4 * 16
    assert Image.open(answers).width > 2 * 16


def test_the_distance_can_be_left_out(few, studio, tiny_folder: Path, tmp_path: Path):
    done = studio("base", "evaluate", "--base", tiny_folder, "--library", tmp_path / "library", "--distance", 0)
    assert done.status == 0, done.err
    assert "position" in done.out
    assert "Fréchet" not in done.out
