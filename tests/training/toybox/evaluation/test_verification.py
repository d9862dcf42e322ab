import numpy as np
import pytest
import torch
from PIL import Image

from studio.metrics.clip import Scorer
from studio.metrics.identity import Identifier, IdentityNetwork, ImageFeatures
from training.toybox.evaluation.verification import (
    CORRUPTIONS,
    REFERENCES,
    benchmark_decisions,
    calibrated_thresholds,
    trials,
)


class Stub(Scorer):
    """Sees a picture's mean colour and how much it varies."""

    def __init__(self):
        self.backbone, self.identifier = "stub", Identifier(IdentityNetwork(), None)

    def extract_features(self, pictures) -> ImageFeatures:
        levels = torch.stack([torch.from_numpy(np.array(picture)).float() for picture in pictures])
        return ImageFeatures(torch.nn.functional.normalize(levels.mean((1, 2)), dim=-1), levels.std((1, 2, 3)))


@pytest.fixture(scope="module")
def sampled():
    return trials(4, 3)


def test_trials_are_the_same_again_and_hold_five_references_and_four_hard_negatives(sampled):
    again = trials(1, 3)[0]
    assert [picture.tobytes() for picture in again.references] == [one.tobytes() for one in sampled[0].references]
    for trial in sampled:
        assert len(trial.references) == REFERENCES
        assert [len(pictures) for pictures in trial.negatives] == [REFERENCES] * 4
        assert len(trial.swapped) == len(trial.own)
        for own, swapped in zip(trial.own, trial.swapped, strict=True):
            changed = np.abs(np.asarray(own, int) - np.asarray(swapped, int)).max(-1) > 30
            assert 0 < changed.mean() < 0.8, "only the individual is recoloured"


def test_corruptions_are_those_of_the_law():
    ramp = np.tile(np.arange(128, dtype=np.uint8)[:, None, None], (1, 128, 3))
    picture = Image.fromarray(ramp)
    made = {name: np.asarray(corrupt(picture, np.random.default_rng(0))) for name, corrupt in CORRUPTIONS.items()}
    assert len(np.unique(made["mosaic"])) == 8
    assert made["mosaic"].reshape(8, 16, 8, 16, 3).std((1, 3)).max() == 0
    assert sorted(made["shuffled"].ravel()) == sorted(ramp.ravel())
    assert not np.array_equal(made["shuffled"], ramp)
    edge = np.zeros((128, 128, 3), np.uint8)
    edge[:, 64:] = 255
    profile = np.asarray(CORRUPTIONS["blurred"](Image.fromarray(edge), np.random.default_rng(0)))[64, :, 0] / 255
    assert profile[64 + 12] == pytest.approx(0.841, abs=0.03), "one standard deviation is 12 pixels"


def test_thresholds_accept_5_percent_of_others_and_nearly_all_own_pictures(sampled):
    thresholds = calibrated_thresholds(Stub(), sampled)
    assert 0 < thresholds.similarity < 1
    intact = torch.cat([Stub().extract_features(trial.own).intact for trial in sampled])
    assert (intact >= thresholds.intact).float().mean() >= 0.85


def test_the_decisions_of_the_cases_are_counted(sampled):
    stub = Stub()
    stub.identifier = Identifier(IdentityNetwork(), calibrated_thresholds(stub, sampled))
    found = {one.case: one.counts for one in benchmark_decisions(stub, sampled)}
    assert set(found) == {"own", *CORRUPTIONS, "swapped palette", "hard negatives"}
    assert {total for case, (_, total) in found.items() if case != "hard negatives"} == {8}
    assert found["hard negatives"][1] == 16
