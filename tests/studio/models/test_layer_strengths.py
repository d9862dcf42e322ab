from typing import Any

import pytest
import torch

from concepts.errors import StudioError
from studio.composition.loaded_concept import load_concept
from studio.composition.merge import merged_changes, merged_deltas
from studio.composition.merge_config import MergeConfig
from studio.models.base_model import Base
from studio.models.layer_strengths import check_strength, scaled_strength, strength_at
from studio.serving.served_concept import ServedConcept

BY_PART = {"unet": 0.8, "text_encoder": 0.5, "unet.up_blocks.1": 0.2}


@pytest.mark.parametrize(("layer", "expected"), [
    ("unet.mid_block.attentions.0", 0.8), ("unet.up_blocks.1.attentions.0", 0.2), ("unet.up_blocks.10.x", 0.8),
    ("text_encoder.encoder.layers.0", 0.5), ("text_encoder_2.encoder.layers.0", 1.0),
])  # fmt: skip
def test_the_longest_name_that_fits_counts(layer: str, expected: float):
    assert strength_at(BY_PART, layer) == expected
    assert strength_at(0.3, layer) == 0.3
    assert strength_at(scaled_strength(BY_PART, 0.5), layer) == expected / 2
    assert scaled_strength(0.3, 0.5) == 0.15


def test_parts_and_blocks_that_the_base_lacks_are_refused(base: Base):
    check_strength(base.parts, {"unet": 1.0, "text_encoder": 0.0, "unet.mid_block": 1.0})
    check_strength(base.parts, 0.5)
    check_strength(base.parts, {"": 0.5, "unet": 1.0})
    for key in ("unet.mid_blocks", "vae", "unet.up_blocks.9"):
        with pytest.raises(StudioError, match="Give a strength for unet or text_encoder"):
            check_strength(base.parts, {key: 1.0})


def test_each_part_is_merged_at_its_own_strength(base: Base, make_concept):
    concept = {"rex": make_concept(base, "rex")}
    whole, own = merged_deltas(base, concept), merged_deltas(base, concept, strengths={"rex": BY_PART})
    assert {name.partition(".")[0] for name in own} == {"unet", "text_encoder"}
    for name, delta in own.items():
        expected = merged_deltas(base, concept, strengths={"rex": strength_at(BY_PART, name)})[name]
        torch.testing.assert_close(delta, expected)
        assert not torch.equal(delta, whole[name])


def test_parameters_reach_the_method(base: Base, make_concept):
    pair = {"rex": make_concept(base, "rex"), "tom": make_concept(base, "tom", seed=2, first_column=4)}
    for method, changed in (("ties", {"density": 0.1}), ("dare", {"density": 0.1}), ("svd", {"rank": 1}),
                            ("gradient_fusion", {"ridge": 10.0})):  # fmt: skip
        options: list[dict[str, Any]] = [{}, {**changed}]
        usual, own = (merged_changes(base, pair, MergeConfig(method, **given))[0] for given in options)
        assert any(not torch.equal(usual[name], own[name]) for name in usual), method
    low = merged_changes(base, pair, MergeConfig("svd", rank=1))[0]
    assert all(torch.linalg.matrix_rank(delta) <= 1 for delta in low.values())
    with pytest.raises(StudioError, match=r"fedavg has no density. Leave it out, or use ties or dare"):
        merged_changes(base, pair, MergeConfig("fedavg", density=0.5))


def test_each_part_is_served_at_its_own_strength(base: Base, make_concept):
    served = ServedConcept("rex", load_concept(base, make_concept(base, "rex")))
    factors, half = served.factors({"unet": 0.0, "text_encoder": 0.5}), served.factors(0.5)
    for name, own in factors.items():
        expected = half[name].low_rank.dense() if name.startswith("text_encoder") else 0 * half[name].low_rank.dense()
        torch.testing.assert_close(own.low_rank.dense(), expected)
