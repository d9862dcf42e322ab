from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from concepts.errors import StudioError
from studio.metrics.identity import (
    IDENTITY_THRESHOLDS,
    IDENTITY_WEIGHTS,
    Identifier,
    IdentityNetwork,
    ImageFeatures,
    Recognition,
    Thresholds,
    load_identifier,
)

AXES = torch.eye(4)
KNOWN = Identifier(IdentityNetwork(), Thresholds(0.6, 0.0))


def looks(*rows: list[float], intact: float = 1.0) -> ImageFeatures:
    return ImageFeatures(F.normalize(torch.tensor(rows), dim=-1), torch.full((len(rows),), intact))


OWN, OTHERS = (
    ImageFeatures(AXES[:1], torch.ones(1)),
    [ImageFeatures(AXES[1:2], torch.ones(1)), ImageFeatures(AXES[2:3], torch.ones(1))],
)


def test_a_picture_counts_when_it_is_nearest_near_enough_and_intact():
    known = Recognition(KNOWN, OWN, OTHERS)
    near, nearest_only, elsewhere = [1.0, 0.2, 0, 0], [0.5, 0.1, 0, 1.0], [0.2, 1.0, 0, 0]
    decisions = known.decisions(looks(near, nearest_only, elsewhere))
    assert decisions.nearest.tolist() == [True, True, False]
    assert decisions.near.tolist() == [True, False, False]
    assert decisions.counted.tolist() == [True, False, False]
    assert known.share(looks(near, nearest_only, elsewhere)) == pytest.approx(1 / 3)
    assert known.share(looks(near, intact=-1.0)) == 0
    assert known.decisions(looks([1.0, 0, 0, 0])).similarity.tolist() == [1.0]


def test_the_references_mean_is_what_counts():
    both = looks([1.0, 0, 0, 0], [0, 0, 0, 1.0])
    known = Recognition(KNOWN, both, OTHERS)
    assert known.decisions(looks([1.0, 0, 0, 1.0])).similarity.item() == pytest.approx(1)
    assert known.decisions(looks([1.0, 0, 0, 0])).similarity.item() == pytest.approx(2**-0.5)


def test_a_scorer_that_was_not_taught_is_refused():
    for identifier in (None, replace(KNOWN, thresholds=None)):
        with pytest.raises(StudioError, match="cannot measure identity accuracy"):
            Recognition(identifier, OWN, OTHERS)


def test_thresholds_lie_beside_the_network(tmp_path):
    network = IdentityNetwork()
    save_file(network.state_dict(), tmp_path / IDENTITY_WEIGHTS)
    untaught = load_identifier(tmp_path)
    assert untaught
    assert untaught.thresholds is None
    (tmp_path / IDENTITY_THRESHOLDS).write_text('{"similarity": 0.25, "intact": -1.5}')
    loaded = load_identifier(tmp_path)
    assert loaded
    assert loaded.thresholds == Thresholds(0.25, -1.5)
    assert torch.equal(loaded.network.projection.weight, network.projection.weight)
    assert load_identifier(tmp_path / "nowhere") is None
