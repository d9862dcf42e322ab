"""The merges against others' own: PEFT's `add_weighted_adapter`, and mergekit's formulas written out.

mergekit's are those of its documentation's pages "linear", "task_arithmetic", "ties" and "dare_linear", with the
divisor that `normalize` brings.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import merge_utils
from torch import Tensor, nn

from studio.adapters.lora import Lora
from studio.composition import MERGES, MergeSite
from studio.composition.dare import dare
from studio.composition.svd import svd
from studio.composition.ties import ties, trim

OUT, IN = 20, 24
RANK, ALPHA = 3, 6.0
WEIGHT = torch.zeros(OUT, IN)
SAME, UNEQUAL, NEGATIVE = [1.0, 1.0, 1.0], [1.0, 0.5, 2.0], [1.0, -0.5, 2.0]
STRENGTHS = [SAME, UNEQUAL, NEGATIVE]
DENSITIES = [0.25, 0.5, 0.8]


def lora(seed: int, slots: slice = slice(None)) -> Lora:
    """A LoRA with random factors, of whose rank only some slots are used."""
    adapter = Lora(WEIGHT, Lora.Config(RANK, ALPHA)).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    adapter.down[slots] = torch.randn(adapter.down[slots].shape, generator=generator)
    adapter.up[:, slots] = torch.randn(adapter.up[:, slots].shape, generator=generator)
    unused = torch.ones(RANK).index_fill(0, torch.arange(RANK)[slots], 0).bool()
    adapter.down[unused] = 0
    adapter.up[:, unused] = 0
    return adapter


CONCEPTS = [lora(seed) for seed in range(3)]


def site_of(strengths: Sequence[float], adapters: Sequence[Lora] = CONCEPTS, name: str = "site") -> MergeSite:
    return MergeSite(WEIGHT, adapters, list(strengths), name=name)


def deltas_of(site: MergeSite) -> Tensor:
    """Every concept's delta at strength 1, (concepts, out, in)."""
    return torch.stack([delta for _, delta in site.parts()])


def peft_merge(combination: str, strengths: Sequence[float], adapters: Sequence[Lora] = CONCEPTS, **options) -> Tensor:
    """What PEFT makes of the same LoRAs, (out, in)."""
    config: Any = LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=["0"], bias="none")
    model: Any = get_peft_model(nn.Sequential(nn.Linear(IN, OUT, bias=False)), config, adapter_name="0")
    for index, adapter in enumerate(adapters):
        if index:
            model.add_adapter(str(index), config)
        layer = model.base_model.model[0]
        layer.lora_A[str(index)].weight.data = adapter.down.clone()
        layer.lora_B[str(index)].weight.data = adapter.up.clone()
    names = [str(index) for index in range(len(adapters))]
    if combination.endswith("svd"):
        options.setdefault("svd_rank", OUT)
    model.base_model.add_weighted_adapter(names, list(strengths), "merged", combination, **options)
    return model.base_model.model[0].get_delta_weight("merged").detach()


def close(found: Tensor, expected: Tensor) -> None:
    assert expected.norm() > 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strengths", STRENGTHS)
def test_fedavg_is_pefts_concatenation_and_mergekits_task_arithmetic(strengths: list[float]):
    site = site_of(strengths)
    merged = MERGES["fedavg"](site)
    close(merged, peft_merge("cat", strengths))
    close(merged, sum((w * delta for w, delta in zip(strengths, deltas_of(site), strict=True)), WEIGHT))


@pytest.mark.parametrize("strengths", STRENGTHS)
def test_fedavg_is_pefts_linear_combination_where_that_has_no_cross_terms(strengths: list[float]):
    """PEFT's "linear" sums A and B apart: B of one meets A of another unless they use different slots of the rank."""
    apart = [lora(seed, slice(seed, seed + 1)) for seed in range(3)]
    close(MERGES["fedavg"](site_of(strengths, apart)), peft_merge("linear", strengths, apart))
    crossed = peft_merge("linear", strengths)
    assert not torch.allclose(MERGES["fedavg"](site_of(strengths)), crossed, atol=0.1)


def test_strengths_divided_by_their_number_are_mergekits_linear_merge():
    site = site_of([1 / 3] * 3)
    weights = torch.tensor(SAME)
    mixed = (weights[:, None, None] * deltas_of(site)).sum(0) / weights.sum()
    close(MERGES["fedavg"](site), mixed)


@pytest.mark.parametrize("rank", [2, RANK, 7])
@pytest.mark.parametrize("strengths", STRENGTHS)
def test_svd_is_pefts(strengths: list[float], rank: int):
    close(svd(site_of(strengths), rank), peft_merge("svd", strengths, svd_rank=rank))


def test_svd_has_pefts_rank_where_none_is_given():
    close(svd(site_of(UNEQUAL)), peft_merge("svd", UNEQUAL, svd_rank=None))


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("strengths", STRENGTHS)
def test_trimming_is_pefts_magnitude_pruning(strengths: list[float], density: float):
    parts = site_of(strengths).parts()
    merged = sum((strength * trim(delta, density) for strength, delta in parts), WEIGHT)
    close(merged, peft_merge("magnitude_prune_svd", strengths, density=density))


def test_trimming_keeps_as_many_as_asked_for_and_all_that_tie_with_them():
    delta = deltas_of(site_of(SAME))[0]
    for density in (0.001, 0.1, 0.333, 0.999, 1.0):
        assert trim(delta, density).count_nonzero() == max(1, int(density * delta.numel()))
    assert torch.equal(trim(torch.ones(4, 5), 0.5), torch.ones(4, 5))
    assert trim(torch.tensor([[3.0, -2.0, 2.0, 1.0]]), 0.5).tolist() == [[3, -2, 2, 0]]


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("strengths", [SAME, [0.5, 0.5, 0.5]])
def test_ties_is_pefts_where_all_are_as_strong(strengths: list[float], density: float):
    close(ties(site_of(strengths), density), peft_merge("ties_svd", strengths, density=density))


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("strengths", STRENGTHS)
def test_ties_divides_by_how_many_agree(strengths: list[float], density: float):
    """PEFT's own steps, with strengths that act before the signs are elected, as in mergekit, and not after."""
    weighted = torch.stack([s * merge_utils.prune(d, density, "magnitude") for s, d in site_of(strengths).parts()])
    agreeing = merge_utils.calculate_majority_sign_mask(weighted)
    close(ties(site_of(strengths), density), merge_utils.disjoint_merge(weighted, agreeing))


def mergekit_ties(deltas: Tensor, weights: list[float], density: float, normalize: bool, scale: float) -> Tensor:
    """mergekit's `ties`: (out, in) from deltas (concepts, out, in); `scale` is its `lambda`."""
    kept = int(density * deltas[0].numel())
    places = deltas.flatten(1).abs().argsort(1, descending=True)[:, :kept]
    sparse = deltas * torch.zeros_like(deltas.flatten(1)).scatter(1, places, 1).view_as(deltas)
    weight = torch.tensor(weights)[:, None, None]
    weighted = sparse * weight
    majority = torch.where(weighted.sum(0) >= 0, 1.0, -1.0)
    mask = (weighted.sign() == majority).float()
    mixed = (weighted * mask).sum(0)
    divisor = (weight * mask).sum(0)
    return scale * (mixed / torch.where(divisor == 0, 1.0, divisor) if normalize else mixed)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_ties_is_mergekits_where_all_are_as_strong(strength: float, density: float):
    site = site_of([strength] * 3)
    close(ties(site, density), mergekit_ties(deltas_of(site), SAME, density, normalize=True, scale=strength))


@pytest.mark.parametrize("density", DENSITIES)
def test_ties_times_its_divisor_is_mergekits_without_normalize(density: float):
    site = site_of(UNEQUAL)
    merged = ties(site, density)
    weighted = torch.stack([strength * trim(delta, density) for strength, delta in site.parts()])
    agreeing = (weighted.sign() == weighted.sum(0).sign()) & (weighted != 0)
    unnormalized = mergekit_ties(deltas_of(site), UNEQUAL, density, normalize=False, scale=1.0)
    close(merged * agreeing.sum(0), unnormalized)


def masks_of(density: float) -> list[Tensor]:
    """Which entries `dare` keeps of each concept, seen where it acts alone."""
    alone = [[float(index == place) for index in range(3)] for place in range(3)]
    return [(dare(site_of(strengths), density) != 0).float() for strengths in alone]


@pytest.mark.parametrize("density", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("strengths", STRENGTHS)
def test_dare_is_pefts_and_mergekits_with_the_same_entries_dropped(strengths: list[float], density: float, monkeypatch):
    masks = masks_of(density)
    drawn = iter(masks)
    monkeypatch.setattr(torch, "bernoulli", lambda probabilities: next(drawn))
    site = site_of(strengths)
    merged = dare(site, density)
    close(merged, peft_merge("dare_linear_svd", strengths, density=density))
    parts = zip(strengths, deltas_of(site), masks, strict=True)
    close(merged, sum((weight * delta * mask / density for weight, delta, mask in parts), WEIGHT))


@pytest.mark.parametrize("density", [0.25, 0.5, 0.75])
def test_dare_drops_as_often_as_asked_and_each_concept_by_its_own_draw(density: float):
    masks = torch.stack(masks_of(density))
    expected = density * OUT * IN
    spread = (OUT * IN * density * (1 - density)) ** 0.5
    assert ((masks.flatten(1).sum(1) - expected).abs() < 4 * spread).all()
    both = (masks[0] * masks[1]).mean().item()
    assert both == pytest.approx(density**2, abs=0.1)
