import shutil
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from studio.bundled import TOYBOX_CLIP
from studio.errors import StudioError
from studio.identity import (
    IDENTITY_THRESHOLDS,
    Identifier,
    IdentityNetwork,
    Looks,
    Recognition,
    Thresholds,
    load_identifier,
)

AXES = torch.eye(4)
KNOWN = Identifier(IdentityNetwork(), Thresholds(0.6, 0.0))


def looks(*rows: list[float], intact: float = 1.0) -> Looks:
    return Looks(F.normalize(torch.tensor(rows), dim=-1), torch.full((len(rows),), intact))


OWN, OTHERS = Looks(AXES[:1], torch.ones(1)), [Looks(AXES[1:2], torch.ones(1)), Looks(AXES[2:3], torch.ones(1))]


def test_a_picture_counts_when_it_is_nearest_near_enough_and_intact():
    known = Recognition(KNOWN, OWN, OTHERS)
    near, nearest_only, elsewhere = [1.0, 0.2, 0, 0], [0.5, 0.1, 0, 1.0], [0.2, 1.0, 0, 0]
    verdicts = known.judged(looks(near, nearest_only, elsewhere))
    assert verdicts.nearest.tolist() == [True, True, False]
    assert verdicts.near.tolist() == [True, False, False]
    assert verdicts.counted.tolist() == [True, False, False]
    assert known.share(looks(near, nearest_only, elsewhere)) == pytest.approx(1 / 3)
    assert known.share(looks(near, intact=-1.0)) == 0
    assert known.judged(looks([1.0, 0, 0, 0])).similarity.tolist() == [1.0]


def test_the_references_mean_is_what_counts():
    both = looks([1.0, 0, 0, 0], [0, 0, 0, 1.0])
    known = Recognition(KNOWN, both, OTHERS)
    assert known.judged(looks([1.0, 0, 0, 1.0])).similarity.item() == pytest.approx(1)
    assert known.judged(looks([1.0, 0, 0, 0])).similarity.item() == pytest.approx(2**-0.5)


def test_a_scorer_that_was_not_taught_is_refused():
    for identifier in (None, replace(KNOWN, thresholds=None)):
        with pytest.raises(StudioError, match="taught to tell individuals apart"):
            Recognition(identifier, OWN, OTHERS)


def test_thresholds_lie_beside_the_network(tmp_path):
    assert load_identifier(tmp_path) is None
    shutil.copytree(TOYBOX_CLIP, tmp_path / "mine")
    (tmp_path / "mine" / IDENTITY_THRESHOLDS).write_text('{"similarity": 0.25, "intact": -1.5}')
    loaded, bundled = load_identifier(tmp_path / "mine"), load_identifier(TOYBOX_CLIP)
    assert loaded
    assert bundled
    assert loaded.thresholds == Thresholds(0.25, -1.5)
    assert bundled.thresholds
    assert torch.equal(loaded.network.projection.weight, bundled.network.projection.weight)
