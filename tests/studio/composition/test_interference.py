import pytest
import torch

from studio.composition.interference import by_pair, interference
from studio.composition.loaded_concept import load_concepts
from studio.models.base_model import Base


def test_columns_of_their_own_do_not_overlap(base: Base, make_concept):
    first = make_concept(base, "rex", "spectral_additive", 1, rank=2)
    second = make_concept(base, "milo", "spectral_additive", 2, rank=2, first_column=2)
    shared = make_concept(base, "tom", "spectral_additive", 3, rank=2, first_column=0)
    found = by_pair(interference(load_concepts(base, {"rex": first, "milo": second, "tom": shared})))
    assert set(found) == {(a, b) for a in ("rex", "milo", "tom") for b in ("rex", "milo", "tom") if a != b}
    assert found["rex", "tom"]["overlap"] > 2 * found["rex", "milo"]["overlap"]


def test_a_concept_overlaps_with_itself_wholly(base: Base, make_concept):
    concept = make_concept(base, "rex", "lora", 1, rank=2)
    found = interference(load_concepts(base, {"rex": concept, "twin": concept}))
    assert len({each.site for each in found}) == len(concept.adapters)
    for each in found:
        assert each.overlap == pytest.approx(1, abs=1e-3)
        assert each.cosine == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("adapter", ["lora", "oft"])  # of low rank, and of any
def test_the_overlap_is_the_share_of_the_change_that_reads_the_same_inputs(base: Base, make_concept, adapter: str):
    concepts = load_concepts(
        base, {"rex": make_concept(base, "rex", "lora", 1, rank=2), "tom": make_concept(base, "tom", adapter, 2)}
    )
    found = interference(concepts)
    assert [each.overlap for each in found] == sorted((each.overlap for each in found), reverse=True)
    one = next(each for each in found if (each.concept, each.other) == ("rex", "tom"))
    first, second = (
        concepts[name].modules[one.site].delta(concepts[name].sites[one.site].weight) for name in ("rex", "tom")
    )
    projection = torch.linalg.pinv(first, rtol=1e-5) @ first
    expected = (second @ projection).square().sum() / second.square().sum()
    assert one.overlap == pytest.approx(expected.item(), rel=1e-3)
