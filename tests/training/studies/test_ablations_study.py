from dataclasses import asdict
from pathlib import Path

import pytest

from concepts.errors import StudioError
from studio.metrics.clip import load_scorer
from studio.models.base_model import Base
from training.config.recipe_resolution import resolve_recipe
from training.studies import ablations
from training.studies.ablations import GROUPS, AblationStudy, Settings
from training.studies.ablations_report import TITLES, ablations_page


@pytest.fixture
def study(base: Base, tmp_path: Path) -> AblationStudy:
    settings = Settings(base.decomposition.fingerprint, 6000, 2, 2, 1, 1)
    return AblationStudy(tmp_path / "study", base, load_scorer(), settings)


@pytest.mark.parametrize(("group", "variant"), [(group, variant) for group in GROUPS for variant in GROUPS[group]])
def test_every_variant_is_a_recipe_and_hydras_have_one_budget(study: AblationStudy, group: str, variant: str):
    recipe = study.recipe(group, variant, 0)
    if group.startswith("hydra"):
        assert recipe.max_parameters == 6000
        assert resolve_recipe(study.base, recipe).rank


def test_a_group_is_measured_once_and_reported(study: AblationStudy, monkeypatch, tmp_path: Path, state_of):
    before = state_of(study.base)
    rows = study.run(["hydra"], ["azura"], [0])
    assert [row["variant"] for row in rows] == ["parallel", "sequential", "both"]
    assert all(0 < row["trained"] <= 6000 + 32 for row in rows)
    assert rows[2].keys() - rows[0].keys() <= {"similarity_parallel", "similarity_sequential"}
    assert state_of(study.base) == before
    monkeypatch.setattr(ablations, "train_concept", None)
    assert study.run(["hydra"], ["azura"], [0]) == rows, "what was there is not trained again"
    page = ablations_page(study.folder, rows, asdict(study.settings), "toybox-clip")
    assert [section.heading for section in page.sections] == [TITLES["hydra"]]
    assert "at most 6,000 parameters" in page.sections[0].text
    text = page.publish(tmp_path / "docs", "studio study ablations").read_text()
    assert text.count("Reproduce with `studio study ablations`") == 1
    assert len((tmp_path / "docs" / "ablations.csv").read_text().splitlines()) == 4


def test_the_groups_without_layers_are_measured_too(study: AblationStudy):
    rows = study.run(["ada_link"], ["azura"], [0])
    assert len(rows) == len(GROUPS["ada_link"])
    page = ablations_page(study.folder, rows, asdict(study.settings), "toybox-clip")
    assert "budget" not in page.sections[0].text
    assert len(page.sections[0].rows or []) == len(rows)


def test_a_group_that_does_not_exist_is_refused(study: AblationStudy):
    with pytest.raises(StudioError, match=r"There is no ablation 'oft'\. Choose from hydra, hydra_location"):
        study.run(["oft"], ["azura"], [0])
