import json
from pathlib import Path


def test_the_study_is_run_and_goes_on(studio, tiny_folder: Path, tmp_path: Path):
    out = tmp_path / "study"
    common = [
        "study", "composition", "--output", out, "--base", tiny_folder, "--json", "--seeds", 1, "--rank", 4,
        "--steps", 1, "--num-images", 1, "--num-inference-steps", 1, "--num-class-images", 2, "--pair", "lora+fedavg",
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
    assert "such as 2,3,4" in refused.err


def test_quick_is_small_and_what_was_given_wins(studio, tiny_folder: Path, tmp_path: Path):
    out, docs = tmp_path / "study", tmp_path / "docs"
    common = [
        "study", "efficiency", "--quick", "--output", out, "--base", tiny_folder, "--json", "--steps", 1,
        "--search-steps", 1, "--num-inference-steps", 1, "--num-class-images", 2, "--adapter", "svdiff",
        "--publish", docs,
    ]  # fmt: skip
    first = studio(*common).document
    assert [row["kind"] for row in first["rows"]] == ["base", "searched", "searched", "compared"]
    assert [row["rate"] for row in first["rows"][1:3]] == [5e-3, 2e-2]
    assert Path(first["report"]).read_text().startswith("<!doctype html>")
    page = Path(first["page"]).read_text()
    assert f"studio study efficiency --output {out} --adapter svdiff --steps 1" in page
    again = studio(*common, "--only-report").document
    assert sorted(map(str, again["rows"])) == sorted(map(str, first["rows"]))
    refused = studio(*common, "--rates", "1e-3,2")
    assert refused.status == 2
    assert "lie between 0 and 1" in refused.err


def test_costs_are_reported_from_what_is_there(studio, tiny_folder: Path, tmp_path: Path):
    out = tmp_path / "study"
    (out / "rows").mkdir(parents=True)
    common = ["study", "cost", "--output", out, "--base", tiny_folder, "--only-report", "--json"]
    assert "without --only-report first" in studio(*common).err
    layer = {"kind": "sd15", "adapter": "lora", "set_up_seconds": 0.1, "step_seconds": 0.5, "merged_seconds": 0.2}
    layer |= {"unmerged_seconds": 0.25, "row_seconds": 1.0}
    layers = {320: 40, 640: 40, 768: 48, 1280: 48}
    rows = [layer | {"width": width, "layers": number} for width, number in layers.items()]
    for row in rows:
        (out / "rows" / f"sd15-lora-{row['width']}.json").write_text(json.dumps(row))
    document = studio(*common).document
    assert sorted(row["width"] for row in document["rows"]) == list(layers)
    assert "88.000" in Path(document["report"]).read_text(), "176 layers of 0.5 s"
