from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from studio.metrics.clip import load_scorer
from studio.models.base_model import Base
from training.engine.train_state import DivergenceError
from training.studies import efficiency
from training.studies.efficiency import EfficiencyStudy, Settings, best_rate
from training.studies.efficiency_criteria import evaluate_claims
from training.studies.efficiency_report import MEASURES, efficiency_page, summary

SMALL: dict[str, Any] = {
    "steps": 2, "search_steps": 1, "rates": (1e-3, 1e-2), "batch_size": 2, "num_class_images": 2, "pictures": 1,
    "num_inference_steps": 1,
}  # fmt: skip
METHODS = ("lora", "svdiff")


@pytest.fixture
def study(base: Base, tmp_path: Path) -> EfficiencyStudy:
    return EfficiencyStudy(tmp_path / "study", base, load_scorer(), Settings(base.decomposition.fingerprint, **SMALL))


def test_a_stopped_study_is_resumed_and_reports_what_it_has(study: EfficiencyStudy, base: Base, monkeypatch, state_of):
    before, trained, real = state_of(base), [], efficiency.train_concept
    monkeypatch.setattr(
        efficiency, "train_concept", lambda *given, **named: trained.append(given[4]) or real(*given, **named)
    )
    sizes = study.sizes(METHODS, 1)
    assert [size.method for size in sizes] == ["lora", "svdiff"]

    def stop(row: dict[str, Any]) -> None:
        if row["kind"] == "compared":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.run(sizes, ["azura"], [0], stop)
    assert [(recipe.adapter, recipe.unet_lr, recipe.steps) for recipe in trained[:2]] == [
        ("lora", 1e-3, 1), ("lora", 1e-2, 1),
    ]  # fmt: skip
    assert len(trained) == 3
    assert len(study.found(sizes)) == 4, "the base, two searches and a training"
    rows = EfficiencyStudy(study.folder, base, study.concept_scorer.scorer, study.settings).run(sizes, ["azura"], [0])
    assert len(trained) == 6, "what was there is not trained again"
    assert state_of(base) == before
    taken = best_rate([row for row in rows if row["kind"] == "searched" and row["method"] == "lora"])
    assert next(row for row in rows if row["kind"] == "compared")["rate"] == taken == trained[2].unet_lr
    assert trained[2].text_encoder_lr == taken / 4
    assert sorted(map(str, study.found(sizes))) == sorted(map(str, rows))
    for row in rows:
        assert 0 <= row["identity"] <= 1
        assert all(-1 <= row[measure] <= 1 for measure in MEASURES)


def test_a_search_that_is_as_long_as_the_training_serves_as_it(base: Base, tmp_path: Path):
    settings = Settings(base.decomposition.fingerprint, **{**SMALL, "steps": 1})
    study = EfficiencyStudy(tmp_path / "study", base, load_scorer(), settings)
    rows = study.run(study.sizes(("svdiff",), 1), ["azura"], [0])
    assert [row["kind"] for row in rows] == ["base", "searched", "searched", "compared"]
    assert len(list((study.folder / "rows").iterdir())) == 3


def test_a_rate_that_diverges_is_a_row_and_not_taken(study: EfficiencyStudy, monkeypatch):
    real = efficiency.train_concept

    def train(*given: Any, **named: Any) -> Any:
        if given[4].unet_lr == 1e-2:
            raise DivergenceError("no number")
        return real(*given, **named)

    monkeypatch.setattr(efficiency, "train_concept", train)
    rows = study.run(study.sizes(("svdiff",), 1), ["azura"], [0])
    assert [row.get("diverged") for row in rows] == [None, False, True, False]
    assert rows[-1]["rate"] == 1e-3
    page = efficiency_page(study.folder, rows, asdict(study.settings), "toybox-clip")
    assert "1 of 3 diverged" in page.sections[0].text


def test_the_page_has_plots_a_grid_tables_and_the_command(study: EfficiencyStudy, tmp_path: Path):
    rows = study.run(study.sizes(METHODS, 2), ["azura"], [0, 1])
    lines = summary(rows)
    assert [(line["method"], line["n"]) for line in lines] == [("lora", 2), ("lora", 2), ("svdiff", 2)]
    page = efficiency_page(study.folder, rows, asdict(study.settings), "toybox-clip")
    report = page.write(study.folder).read_text()
    assert "toybox-clip" in report
    assert report.count("<img") == 2
    assert f"{lines[0]['trained']:,}" in report
    assert len((study.folder / "efficiency.csv").read_text().splitlines()) == 1 + len(rows)
    text = page.publish(tmp_path / "docs", "studio study efficiency --seeds 2").read_text()
    pictures = [line for line in text.splitlines() if line.startswith("![")]
    assert text.count("Reproduce with `studio study efficiency --seeds 2`") == len(pictures) == 2
    for line in pictures:
        assert (tmp_path / "docs" / line.rpartition("(")[2].rstrip(")")).stat().st_size > 1000


def rows_of(method: str, trained: int, alignments: list[float]) -> list[dict[str, Any]]:
    return [
        {"method": method, "trained": trained, "concept": "milo", "seed": seed, "image_alignment": value}
        for seed, value in enumerate(alignments)
    ]


def test_the_claims_compare_the_same_concepts_and_seeds():
    rows = [
        *rows_of("lora", 1000, [0.8, 0.7]), *rows_of("lora", 2000, [0.9, 0.9]),
        *rows_of("spectral_rotational", 50, [0.1, 0.1]), *rows_of("spectral_rotational", 100, [0.79, 0.68]),
        *rows_of("spectral_rotational", 200, [0.9, 0.9]),
        *rows_of("oft", 60, [0.5, 0.6]), *rows_of("oft", 101, [0.9, 0.9]), *rows_of("lidb", 300, [0.8]),
    ]  # fmt: skip
    lora, oft, lidb = evaluate_claims(rows)
    assert lora["compared"] == "spectral_rotational with 100 − lora with 1,000"
    assert lora["difference of image alignment"] == pytest.approx(-0.015)
    assert lora["its standard deviation"] == pytest.approx(0.005 * 2**0.5)
    assert (lora["trainings"], lora["holds"]) == (2, "yes")
    assert (oft["compared"], oft["holds"]) == ("spectral_rotational with 100 − oft with 60", "yes")
    assert (lidb["trainings"], lidb["holds"]) == (1, "no")
    assert lidb["its standard deviation"] is None
    assert evaluate_claims(rows_of("lora", 1000, [0.8])) == []
    worse = evaluate_claims([*rows_of("lora", 1000, [0.8]), *rows_of("spectral_rotational", 100, [0.77])])
    assert [line["holds"] for line in worse] == ["no"]
