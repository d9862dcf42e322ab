"""The bundled scorer's identity agrees with the eye, on individuals that it never saw."""

import pytest

from studio.metrics.clip import Scorer, load_scorer
from studio.metrics.identity import Recognition
from training.toybox.evaluation.hard_negatives import sample_pictures, sample_recognition
from training.toybox.evaluation.identity_laws import sample_verdicts, table
from training.toybox.evaluation.verification import CORRUPTIONS, law_verdicts, trials

OWN, SPOILED = 0.95, 0.1
"""The share of own pictures that count at least, and of those that should not, at most."""
BROKEN = (*CORRUPTIONS, "swapped palette")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    scorer = load_scorer()
    if scorer.identifier is None:
        pytest.skip("NOT RUN: the bundled scorer has no identity network yet; studio base train --stage identity")
    return scorer


def shares(counts: dict[str, tuple[int, int]]) -> dict[str, float]:
    return {law: counted / total for law, (counted, total) in counts.items()}


def test_own_pictures_count_and_broken_ones_do_not(scorer: Scorer):
    found = law_verdicts(scorer, trials(12, 77))
    share = shares({one.law: one.counts for one in found})
    assert share["own"] >= 0.8, share  # 24 pictures: the exact bounds are tested on many
    assert all(share[law] <= 0.25 for law in BROKEN), share
    assert [column.header for column in table(found).columns][:4] == ["law", "counted", "of", "share"]


def test_a_sample_is_known_by_its_own_pictures_and_not_by_anothers(scorer: Scorer):
    known = sample_recognition(scorer, "azura")
    assert isinstance(known, Recognition)
    assert known.share(scorer.extract_features(sample_pictures("azura"))) == 1
    assert known.share(scorer.extract_features(sample_pictures("onyx"))) == 0


@pytest.mark.slow
def test_the_laws_hold_on_many_individuals(scorer: Scorer):
    share = shares({one.law: one.counts for one in law_verdicts(scorer, trials())})
    assert share["own"] >= OWN, share
    assert all(share[law] <= SPOILED for law in BROKEN), share


@pytest.mark.slow
def test_the_laws_hold_on_the_samples(scorer: Scorer):
    share = shares({one.law.removeprefix("samples: "): one.counts for one in sample_verdicts(scorer)})
    assert share["own"] >= OWN, share
    assert all(share[law] <= SPOILED for law in BROKEN), share
