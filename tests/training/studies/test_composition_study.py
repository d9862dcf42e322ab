import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from concepts.errors import StudioError
from studio.composition import merge
from studio.metrics.clip import load_scorer
from studio.models.base_model import Base
from training.studies import composition
from training.studies.composition import CompositionStudy, Settings, boxes
from training.studies.composition_criteria import claims_summary, evaluate_claims
from training.studies.composition_report import MEASURES, composition_page, merge_capacity, placements, summary
from training.studies.pairs import PAIRS, VARIANTS, Pair, first_column, pair_from

SMALL: dict[str, Any] = {
    "rank": 4,
    "steps": 1,
    "batch_size": 2,
    "num_class_images": 2,
    "pictures": 1,
    "num_inference_steps": 1,
}
TWO = (Pair("spectral_additive", "spectral"), Pair("spectral_additive", "unmerged"))


@pytest.fixture
def study(base: Base, tmp_path: Path) -> CompositionStudy:
    return CompositionStudy(tmp_path / "study", base, load_scorer(), Settings(base.decomposition.fingerprint, **SMALL))


def test_every_pair_is_measured_and_reported(study: CompositionStudy, base: Base, state_of):
    before = state_of(base)
    rows = study.run([1, 2], [0, 1], TWO)
    assert state_of(base) == before
    assert [(row["seed"], row["count"], row["pair"]) for row in rows[:4]] == [
        (0, 1, "spectral_additive+spectral"), (0, 1, "spectral_additive+unmerged"),
        (0, 2, "spectral_additive+spectral"), (0, 2, "spectral_additive+unmerged"),
    ]  # fmt: skip
    for row in rows:
        assert row.keys() >= MEASURES.keys()
        assert all(0 <= row[measure] <= 1 for measure in MEASURES if "identity" in measure)
        assert row["alone_identity_worst"] <= row["alone_identity"]
    merged, unmerged = rows[0], rows[1]
    assert merged["leak_unrelated_pixels"] > 0
    assert unmerged["leak_unrelated_pixels"] < 0.01, "what is not named is not there, but for bfloat16's rounding"
    lines = summary(rows)
    assert len(lines) == 4
    mean = (rows[0]["merge_seconds"] + rows[4]["merge_seconds"]) / 2
    assert lines[0]["merge_seconds"] == pytest.approx(mean)
    assert lines[0]["merge_seconds_spread"] == pytest.approx(abs(rows[0]["merge_seconds"] - mean) * 2**0.5)
    report = composition_page(study.folder, rows, SMALL, "toybox-clip").write(study.folder).read_text()
    assert "toybox-clip" in report
    assert report.count("<img") == 1 + 2 * 2
    with Image.open(study.folder / "grids" / "spectral_additive+spectral-2-0.png") as grid:
        assert grid.size == (4 * 32, 16)


def test_an_interrupted_study_is_resumed(study: CompositionStudy, base: Base, monkeypatch):
    trained, merged = [], []
    real_train, real_merge = composition.train_concept, merge.merged_changes
    monkeypatch.setattr(composition, "train_concept", lambda *given: trained.append(given[1]) or real_train(*given))
    monkeypatch.setattr(merge, "merged_changes", lambda *given: merged.append(1) or real_merge(*given))

    def stop(row: dict[str, Any]) -> None:
        if row["count"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.run([2, 3], [0], TWO[:1], stop)
    first = json.loads((study.folder / "rows" / "spectral_additive+spectral-2-0.json").read_text())
    again = CompositionStudy(study.folder, base, study.scorer, study.settings)
    rows = again.run([2, 3], [0], TWO[:1])
    assert rows[0] == first
    assert trained == ["milo", "rex", "azura"]
    assert len(merged) == 2
    torn = study.folder / "rows" / ".half.tmp"
    torn.write_text("{")
    assert again.run([2, 3], [0], TWO[:1]) == rows
    with pytest.raises(StudioError, match="Choose another folder, or the same settings"):
        CompositionStudy(study.folder, base, study.scorer, Settings(base.decomposition.fingerprint))


def test_every_variant_trains_and_few_sites_are_few(study: CompositionStudy, base: Base):
    sizes = {}
    for variant in VARIANTS:
        concept = study.concept("spectral_additive", variant, "milo", 0)
        sizes[variant] = len(concept.adapters)
        assert len(concept.tokens["<milo>"]["text_encoder"]) == (4 if variant == "in_token" else 1)
    few = [name for name, site in base.sites.items() if site.part == "text_encoder"]
    assert sizes["few_sites"] == len(few) + len(base.sites_of(("cross_attention_kv",)))
    assert sizes[""] == sizes["no_prior"] == len(base.sites)
    rows = study.run([2], [0], [Pair("spectral_additive", "gradient_fusion", variant="few_sites")])
    assert rows[0]["variant"] == "few_sites"


def test_concepts_of_a_study_have_columns_of_their_own(study: CompositionStudy):
    firsts = [study.concept("orthogonal", "", name, 0).config["first_column"] for name in ("milo", "rex", "azura")]
    assert firsts == [0, 4, 8]


@pytest.mark.parametrize("count", [2, 3, 4, 6, 8])
def test_the_boxes_cover_the_picture_once(count: int):
    assert sum((bottom - top) * (right - left) for top, left, bottom, right in boxes(count)) == pytest.approx(1)
    assert len(set(boxes(count))) == count
    with pytest.raises(StudioError, match=r"5 is not a possible number of concepts. Choose from 1, 2, 3, 4, 6, 8"):
        boxes(5)


def test_pairs_are_written_and_read():
    assert [pair_from(str(pair)) for pair in PAIRS] == list(PAIRS)
    assert len(set(map(str, PAIRS))) == len(PAIRS)
    for text, words in (("magic+spectral", "magic"), ("lora", "ADAPTER"), ("lora+ties+x", "'x'"), ("lora+x", "fedavg")):
        with pytest.raises(StudioError, match=words):
            pair_from(text)


def test_blocks_of_columns_do_not_overlap_wherever_they_lie():
    for variant in ("", "random_columns"):
        firsts = [first_column(variant, place, 8, 68, 3) for place in range(8)]
        columns = {column for first in firsts for column in range(first, first + 8)}
        assert len(columns) == 64
        assert min(columns) >= 0
        assert max(columns) < 68
    assert [first_column("bottom_columns", place, 8, 68, 0) for place in (0, 1)] == [0, 8]  # counted from the bottom
    assert first_column("random_columns", 0, 8, 68, 3) == first_column("random_columns", 0, 8, 68, 3)
    assert len({first_column("random_columns", 0, 8, 68, seed) for seed in range(20)}) > 4


def test_the_report_has_how_many_concepts_fit_and_whether_the_top_columns_are_better():
    def row(variant: str, count: int, identity: float) -> dict[str, Any]:
        pair = Pair("spectral_additive", "spectral", variant=variant)
        measures = dict.fromkeys(MEASURES, 0.5) | {"alone_identity": identity, "region_identity": 0.9}
        own = {"adapter": pair.adapter, "method": pair.method, "averaged": False, "variant": variant}
        return {**own, "pair": str(pair), "count": count, "seed": 0, **measures}

    rows = [row("", 2, 0.9), row("", 4, 0.8), row("", 8, 0.7), row("bottom_columns", 2, 0.5)]
    found = {line["pair"]: line for line in merge_capacity(summary(rows))}
    top, bottom = (found[name] for name in ("spectral_additive+spectral", "spectral_additive+spectral+bottom_columns"))
    assert top["identity accuracy, one at a time"] == "4, not 8"
    assert top["identity accuracy by region"] == "8 or more"
    assert bottom["identity accuracy, one at a time"] == "fewer than 2"
    assert bottom["identity accuracy by region"] == "2, not 4", "what was not measured does not count"
    (line,) = placements(rows)
    assert line["top columns minus others"] == "spectral_additive+spectral − bottom_columns"
    assert line["identity accuracy, one at a time"] == "0.400"


def test_the_claims_are_evaluated_at_three_concepts_seed_by_seed():
    def row(pair: str, seed: int, worst: float, image: float, count: int = 3) -> dict[str, Any]:
        measures = dict.fromkeys(MEASURES, 0.01) | {"alone_identity_worst": worst, "region_identity_worst": 0.6}
        return {"pair": pair, "count": count, "seed": seed, **measures, "alone_image_alignment": image}

    own = [row("spectral_additive+spectral", seed, 0.8 + 0.1 * seed, 0.7 + 0.1 * seed) for seed in (0, 1)]
    other = [row("lora+fedavg", seed, 0.1, 0.6 + 0.1 * seed - 0.01 * seed) for seed in (0, 1)]
    rest = [row("orthogonal+orthogonal", 1, 0.1, 0.1), row("lora+fedavg+average", 0, 0, 0, count=2)]
    found = {line["claim"].split(":")[0]: line for line in evaluate_claims([*own, *other, *rest])}
    assert len(found) == 4 + 2 + 2, "what has no rows of three concepts is not judged"
    worst = found["identity accuracy of the worst of 3 concepts, one at a time"]
    assert (worst["holds"], worst["seeds"]) == ("yes", 2)
    assert worst["mean"] == pytest.approx(0.85)
    assert found["identity accuracy of the worst of 3 regions"]["holds"] == "no"
    assert found["leakage to unrelated prompts (cosine distance)"]["holds"] == "yes"
    ahead = found["image alignment one at a time, minus that of lora+fedavg"]
    assert ahead["holds"] == "yes"
    assert ahead["mean"] == pytest.approx(0.105)
    assert ahead["standard deviation"] == pytest.approx(0.005 * 2**0.5)
    assert found["image alignment by region, minus that of lora+fedavg"]["holds"] == "no"
    single = found["image alignment one at a time, minus that of orthogonal+orthogonal"]
    assert (single["holds"], single["standard deviation"]) == ("undecided with one seed", None)
    assert "Not evaluated" in claims_summary(evaluate_claims(rest))
