import pytest
import torch
from torch import Tensor

from studio.adapters import Adapter
from studio.adapters.lora import Lora
from studio.adapters.spectral_additive import SpectralAdditive
from studio.composition import MERGES, MergeSite, merge_concepts, shared_columns
from studio.decomposition import singular_columns
from studio.errors import StudioError
from studio.sites import Site

WEIGHT = torch.randn(20, 24, generator=torch.Generator().manual_seed(0))


def spectral_adapter(first_column: int, rank: int = 4, train_scale: bool = False) -> SpectralAdditive:
    adapter = SpectralAdditive(WEIGHT, SpectralAdditive.Config(rank, first_column, train_scale))
    return trained(adapter, first_column)


def lora_adapter(rank: int, weight: Tensor = WEIGHT) -> Lora:
    return trained(Lora(weight, Lora.Config(rank)), rank)


def trained(adapter, seed: int):
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return adapter.requires_grad_(False)


@pytest.mark.parametrize("train_scale", [False, True])
def test_on_disjoint_columns_at_strength_one_spectral_is_the_sum(train_scale: bool):
    adapters = [spectral_adapter(first, train_scale=train_scale) for first in (12, 0, 5)]
    site = MergeSite(WEIGHT, adapters, [1.0, 1.0, 1.0])
    torch.testing.assert_close(MERGES["spectral"](site), MERGES["fedavg"](site), rtol=1e-4, atol=1e-4)


def test_on_disjoint_columns_spectral_scales_each_concept_by_its_own_rule():
    adapters, strengths = [spectral_adapter(0), spectral_adapter(4)], [0.5, 2.0]
    expected = sum(adapter.delta(WEIGHT, strength) for adapter, strength in zip(adapters, strengths, strict=True))
    merged = MERGES["spectral"](MergeSite(WEIGHT, adapters, strengths))
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(merged, MERGES["fedavg"](MergeSite(WEIGHT, adapters, strengths)), atol=0.1)


@pytest.mark.parametrize("strengths", [[1.0, 1.0], [0.5, 0.25]])
def test_spectral_is_the_joint_form_also_where_columns_are_shared(strengths: list[float]):
    adapters = [spectral_adapter(0), spectral_adapter(2, rank=5)]
    columns = singular_columns(WEIGHT)
    u, s, v = columns.u, columns.s, columns.v
    changed_u, changed_v = u.clone(), v.clone()
    for adapter, first, strength in zip(adapters, (0, 2), strengths, strict=True):
        changed_u[:, first : first + adapter.config.rank] += strength * adapter.change_u
        changed_v[:, first : first + adapter.config.rank] += strength * adapter.change_v
    merged = MERGES["spectral"](MergeSite(WEIGHT, adapters, strengths))
    torch.testing.assert_close(merged, changed_u * s @ changed_v.T - u * s @ v.T, rtol=1e-4, atol=1e-4)


def test_fedavg_is_the_weighted_sum_of_any_adapters():
    adapters = [lora_adapter(3), spectral_adapter(0)]
    merged = MERGES["fedavg"](MergeSite(WEIGHT, adapters, [0.5, -2.0]))
    torch.testing.assert_close(merged, 0.5 * adapters[0].delta(WEIGHT) - 2 * adapters[1].delta(WEIGHT))


@pytest.mark.parametrize("method", MERGES)
def test_one_concept_at_strength_one_is_itself(method: str):
    adapter = spectral_adapter(3)
    merged = MERGES[method](MergeSite(WEIGHT, [adapter], [1.0]))
    torch.testing.assert_close(merged, adapter.delta(WEIGHT), rtol=1e-4, atol=1e-4)


def test_spectral_refuses_other_adapters():
    with pytest.raises(StudioError, match=r"spectral_additive concepts only: .* fedavg"):
        MERGES["spectral"](MergeSite(WEIGHT, [spectral_adapter(0), lora_adapter(3)], [1.0, 1.0]))


def test_shared_columns_are_reported():
    concepts = {
        "rex": {"a": spectral_adapter(0)},
        "milo": {"a": spectral_adapter(4)},
        "tom": {"a": spectral_adapter(6, rank=6)},
    }
    assert shared_columns(concepts) == {("milo", "tom"): range(6, 8)}


def test_concepts_are_merged_site_by_site(sites: dict[str, Site]):
    first, second, third, *_ = sites
    adapters: dict[str, dict[str, Adapter]] = {
        "rex": {name: lora_adapter(2, sites[name].weight) for name in (first, second)},
        "milo": {name: lora_adapter(3, sites[name].weight) for name in (second, third)},
    }
    merged = merge_concepts(MERGES["fedavg"], sites, adapters, {"rex": 1.0, "milo": 0.5})
    rex, milo = adapters["rex"], adapters["milo"]
    assert merged.keys() == {first, second, third}
    torch.testing.assert_close(merged[first], rex[first].delta(sites[first].weight))
    both = rex[second].delta(sites[second].weight) + 0.5 * milo[second].delta(sites[second].weight)
    torch.testing.assert_close(merged[second], both)
    assert not any(delta.requires_grad for delta in merged.values())


def test_a_merge_that_does_not_fit_is_refused(sites: dict[str, Site]):
    name = next(iter(sites))
    adapter = lora_adapter(2, sites[name].weight)
    with pytest.raises(StudioError, match="strength for rex"):
        merge_concepts(MERGES["fedavg"], sites, {"rex": {name: adapter}}, {})
    with pytest.raises(StudioError, match="no layer elsewhere, which rex adapts"):
        merge_concepts(MERGES["fedavg"], sites, {"rex": {"elsewhere": adapter}}, {"rex": 1.0})
