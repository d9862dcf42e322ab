from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("quick_priors")


def test_the_study_is_run_and_goes_on(studio, tiny_folder: Path, tmp_path: Path):
    out = tmp_path / "study"
    common = [
        "study", "composition", "--out", out, "--base", tiny_folder, "--json", "--seeds", 1, "--rank", 4, "--steps", 1,
        "--pictures", 1, "--paint-steps", 1, "--prior-pictures", 2, "--pair", "lora+fedavg",
    ]  # fmt: skip
    first = studio(*common, "--counts", "2").document
    assert [row["pair"] for row in first["rows"]] == ["lora+fedavg"]
    assert Path(first["report"]).read_text().startswith("<!doctype html>")
    concepts = list((out / "concepts").iterdir())
    more = studio(*common, "--counts", "2", "--pair", "lora+svd+average").document
    assert more["rows"][0] == first["rows"][0]
    assert [line["pair"] for line in more["summary"]] == ["lora+fedavg", "lora+svd+average"]
    assert list((out / "concepts").iterdir()) == concepts
    refused = studio(*common, "--counts", "2,x")
    assert refused.status == 2
    assert "as in 2,3,4" in refused.err
