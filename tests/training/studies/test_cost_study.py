import sys
from pathlib import Path
from typing import Any

import pytest

from studio.adapters.cost import num_parameters, shapes_of
from studio.adapters.registry import method_named
from studio.models.architectures import architecture_sites
from studio.models.base_model import Base
from training.studies import cost, cost_report
from training.studies.cost import CostStudy, Settings, widths
from training.studies.cost_report import at_stable_diffusion, cost_page

SMALL: dict[str, Any] = {"rounds": 1, "pictures": 1, "num_inference_steps": 1}


@pytest.fixture
def study(base: Base, tiny_folder: Path, tmp_path: Path) -> CostStudy:
    return CostStudy(tmp_path / "study", base, Settings(base.decomposition.fingerprint, str(tiny_folder), **SMALL))


def test_every_cost_is_measured_on_the_base(study: CostStudy, base: Base, state_of, monkeypatch):
    before = state_of(base)
    row = study.on_base("oft")
    assert state_of(base) == before
    method = method_named("oft")
    assert row["trained"] == num_parameters("oft", method.Config(), shapes_of(base.sites))
    assert row["published"] > row["trained"]
    assert row["changed"] > row["trained"], "a rotation changes whole matrices"
    assert row["bytes"] > 4 * row["trained"]
    assert row["step_ratio_low"] <= row["step_ratio"] <= row["step_ratio_high"]
    for key in ("set_up_seconds", "step_seconds", "merge_seconds", "merged_per_second", "unmerged_per_second"):
        assert row[key] > 0
    assert row["peak_megabytes"] > 0 if sys.platform == "linux" else row["peak_megabytes"] is None
    monkeypatch.setattr(cost, "_in_subprocess", lambda *_: None)
    assert study.on_base("layer_norm")["unmerged_per_second"] is None, "norms cannot be products"


def test_layers_of_every_width_add_up_and_a_stopped_study_is_resumed(study: CostStudy, monkeypatch):
    monkeypatch.setattr(cost, "_in_subprocess", lambda *_: 1.5)
    monkeypatch.setattr(cost, "widths", lambda: {16: 3, 32: 5})
    monkeypatch.setattr(cost_report, "widths", lambda: {16: 3, 32: 5})
    monkeypatch.setattr(study, "on_base", lambda name: {"kind": "base", "adapter": name})
    made = []
    real = study.in_layers
    monkeypatch.setattr(study, "in_layers", lambda *given: made.append(given) or real(*given))
    rows = study.run(["lora", "layer_norm"])
    assert made == [("lora", 16, 3), ("lora", 32, 5)]
    assert study.run(["lora", "layer_norm"]) == rows
    assert len(made) == 2
    (line,) = at_stable_diffusion(rows)
    assert line["trained"] == 2_184_192
    assert line["step_seconds"] == pytest.approx(3 * rows[0]["step_seconds"] + 5 * rows[1]["step_seconds"])
    assert at_stable_diffusion(rows[1:]) == [], "a sum over some of the layers would mislead"
    assert line["peak_megabytes"] == 1.5
    page = cost_page(rows[:2], {**SMALL, "machine": "Measured here."})
    report = page.write(study.rows.folder).read_text()
    assert "2,184,192" in report
    assert report.count("<img") == 1


def test_the_widths_are_those_of_all_layers():
    assert widths() == {320: 40, 640: 40, 768: 48, 1280: 48}
    assert sum(widths().values()) == len(architecture_sites("sd15"))
