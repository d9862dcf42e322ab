from typing import Any

import pytest
import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.concept_file import TrainedConcept
from studio.adapters.lora import Lora
from studio.adapters.oft import Oft
from studio.adapters.orthogonal import Orthogonal
from studio.adapters.singular_columns import with_sampled_columns
from studio.adapters.spectral_additive import SpectralAdditive
from studio.composition import MERGES, MergeSite, merge_concepts, shared_blocks, sharing_notes
from studio.composition.automatic_strengths import automatic_strengths
from studio.composition.contrast import contrast
from studio.composition.custom_diffusion import custom_diffusion
from studio.composition.dare import dare
from studio.composition.gradient_fusion_layer import gradient_fusion_delta, ridge_solution
from studio.composition.magnitude import magnitude
from studio.composition.shared_columns import expected_overlap
from studio.composition.svd import svd
from studio.composition.ties import ties, trim
from studio.layers.svd_basis import singular_columns
from studio.layers.target_modules import Site

WEIGHT = torch.randn(20, 24, generator=torch.Generator().manual_seed(0))


def spectral_adapter(first_column: int, rank: int = 4, train_scale: bool = False, **options: Any) -> SpectralAdditive:
    adapter = SpectralAdditive(WEIGHT, SpectralAdditive.Config(rank, first_column, train_scale, **options))
    return trained(adapter, first_column)


def lora_adapter(rank: int, weight: Tensor = WEIGHT) -> Lora:
    return trained(Lora(weight, Lora.Config(rank)), rank)


def orthogonal_adapter(first_column: int, seed: int = 0) -> Orthogonal:
    return trained(Orthogonal(WEIGHT, Orthogonal.Config(4, first_column, seed)), first_column)


def full_adapter(seed: int) -> Oft:
    """One whose delta has full rank."""
    return trained(Oft(WEIGHT, Oft.Config(rank=4)), seed)


def inputs(seed: int, count: int = 200) -> Tensor:
    """What a concept gives the layer, (count, in), of uneven spread."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 24, generator=generator) * torch.linspace(0.1, 3, 24)


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


def test_on_disjoint_columns_spectral_scales_each_concept_by_its_adapter():
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
    adapter = orthogonal_adapter(3) if method == "orthogonal" else spectral_adapter(3)
    merged = MERGES[method](MergeSite(WEIGHT, [adapter], [1.0]))
    torch.testing.assert_close(merged, adapter.delta(WEIGHT), rtol=1e-4, atol=1e-4)


def test_spectral_refuses_other_adapters():
    with pytest.raises(StudioError, match=r"only merges concepts of the adapter spectral_additive. .* fedavg"):
        MERGES["spectral"](MergeSite(WEIGHT, [spectral_adapter(0), lora_adapter(3)], [1.0, 1.0]))


def concept_in(adapter: str, first: int, rank: int) -> TrainedConcept:
    config = {"rank": rank} if adapter == "lora" else {"rank": rank, "first_column": first}
    return TrainedConcept("abc", adapter, config, {})


def test_what_is_shared_is_reported():
    concepts = {
        "rex": concept_in("spectral_additive", 0, 4),
        "milo": concept_in("spectral_additive", 4, 4),
        "tom": concept_in("spectral_rotational", 6, 6),
        "ann": concept_in("orthogonal", 0, 8),
        "bob": concept_in("orthogonal", 7, 8),
        "lea": concept_in("lora", 0, 8),
    }
    assert shared_blocks(concepts) == {("milo", "tom"): [6, 7], ("ann", "bob"): [7]}
    assert sharing_notes(concepts)[0] == (
        "milo and tom share 2 of their columns (6 to 7): merged, their changes there add up."
    )


def test_columns_of_other_bases_are_not_shared_and_sampled_ones_have_an_expectation():
    def concept(**options: Any) -> TrainedConcept:
        return TrainedConcept("abc", "spectral_additive", {"rank": 4, **options}, {})

    concepts = {
        "rex": concept(),
        "low": concept(columns="bottom"),
        "ran": concept(columns="random_basis"),
        "dom": concept(columns="random_basis", seed=1),
        "sam": concept(columns="sampled", indices=[1, 9, 11, 30], sampled_from=32),
        "ula": concept(columns="sampled", indices=[2, 9, 30, 31], sampled_from=32),
    }
    assert shared_blocks(concepts) == {("rex", "sam"): [1], ("rex", "ula"): [2], ("sam", "ula"): [9, 30]}
    assert sharing_notes(concepts)[-1] == (
        "sam and ula share 2 of their columns (9, 30), where 0.5 are expected of columns sampled independently: "
        "merged, their changes there add up."
    )


def test_sampled_columns_overlap_as_often_as_expected():
    config, drawn = SpectralAdditive.Config(rank=8), []
    for index in range(200):
        chosen = with_sampled_columns(config, 64, f"concept{index}")
        assert (len(set(chosen.used)), chosen.sampled_from) == (8, 64)
        assert 0 <= min(chosen.used) <= max(chosen.used) < 64
        drawn.append(set(chosen.used))
    assert with_sampled_columns(config, 64, "concept7").used == tuple(sorted(drawn[7]))
    shared = [len(one & other) for one, other in zip(drawn[::2], drawn[1::2], strict=True)]
    assert sum(shared) / len(shared) == pytest.approx(expected_overlap((8, 8), 64), abs=0.3)


@pytest.mark.parametrize("columns", ["bottom", "random_basis"])
def test_spectral_joins_concepts_within_each_basis(columns: str):
    adapters = [spectral_adapter(0, columns=columns), spectral_adapter(4, columns=columns), spectral_adapter(0)]
    merged = MERGES["spectral"](MergeSite(WEIGHT, adapters, [1.0, 1.0, 1.0]))
    torch.testing.assert_close(merged, sum(a.delta(WEIGHT) for a in adapters), rtol=1e-4, atol=1e-4)


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
    with pytest.raises(StudioError, match="The concept rex has no strength"):
        merge_concepts(MERGES["fedavg"], sites, {"rex": {name: adapter}}, {})
    with pytest.raises(StudioError, match="no layer elsewhere, which rex adapts"):
        merge_concepts(MERGES["fedavg"], sites, {"rex": {"elsewhere": adapter}}, {"rex": 1.0})


def dense(site: MergeSite) -> Tensor:
    """Every concept's strength times its delta, (concepts, out, in)."""
    return torch.stack([strength * delta for strength, delta in site.parts()])


def test_orthogonal_is_the_sum_of_disjoint_rows_and_refuses_the_rest():
    first, second = orthogonal_adapter(0), orthogonal_adapter(4)
    torch.testing.assert_close(first.down @ second.down.T, torch.zeros(4, 4), atol=1e-6, rtol=0)
    site = MergeSite(WEIGHT, [first, second], [1.0, 0.5])
    torch.testing.assert_close(MERGES["orthogonal"](site), first.delta(WEIGHT) + 0.5 * second.delta(WEIGHT))
    with pytest.raises(StudioError, match=r"only merges concepts of the adapter orthogonal. .* fedavg"):
        MERGES["orthogonal"](MergeSite(WEIGHT, [first, lora_adapter(3)], [1.0, 1.0]))
    with pytest.raises(StudioError, match="different seeds"):
        MERGES["orthogonal"](MergeSite(WEIGHT, [first, orthogonal_adapter(4, seed=1)], [1.0, 1.0]))


@pytest.mark.parametrize("method", sorted({*MERGES} - {"spectral", "orthogonal"}))
def test_adapters_of_any_kind_are_merged(method: str):
    adapters = [lora_adapter(3), spectral_adapter(0), orthogonal_adapter(4), full_adapter(7)]
    grams = [x.T @ x for x in map(inputs, range(4))]
    merged = MERGES[method](MergeSite(WEIGHT, adapters, [1.0, 0.5, 2.0, 1.0], grams, "site"))
    assert merged.shape == WEIGHT.shape
    assert merged.isfinite().all()
    assert merged.norm() > 0


@pytest.mark.parametrize("ridge", [0.0, 1e-4, 0.1])
def test_gradient_fusion_is_the_minimum_of_its_objective(ridge: float):
    adapters = [lora_adapter(3), full_adapter(4), spectral_adapter(0)]
    xs = [inputs(seed) for seed in range(3)]
    site = MergeSite(WEIGHT, adapters, [1.0, 0.5, 1.5], [x.T @ x for x in xs])
    rho = ridge * torch.cat(xs).square().sum().item() / 24
    wanted = [delta.double() for delta in dense(site)]
    merged = gradient_fusion_delta(site, ridge).double().requires_grad_()
    objective = rho * merged.square().sum() + sum(
        ((delta - merged) @ x.double().T).square().sum() for delta, x in zip(wanted, xs, strict=True)
    )
    (slope,) = torch.autograd.grad(objective, merged)
    scale = 2 * sum(((delta @ x.double().T) @ x.double()).norm() for delta, x in zip(wanted, xs, strict=True))
    assert slope.norm() < 1e-5 * scale


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_contrast_is_the_minimum_of_its_objective(weight: float):
    adapters = [lora_adapter(3), full_adapter(4), lora_adapter(5)]
    xs = [inputs(seed) for seed in range(3)]
    site = MergeSite(WEIGHT, adapters, [1.0, 0.5, 1.5], [x.T @ x for x in xs])
    rho = 1e-3 * torch.cat(xs).square().sum().item() / 24
    own = dense(site).double()
    wanted = [each + weight * (each - (own.sum(0) - each) / 2) for each in own]
    merged = contrast(site, weight, 1e-3).double().requires_grad_()
    objective = rho * merged.square().sum() + sum(
        ((delta - merged) @ x.double().T).square().sum() for delta, x in zip(wanted, xs, strict=True)
    )
    (slope,) = torch.autograd.grad(objective, merged)
    scale = 2 * sum(((delta @ x.double().T) @ x.double()).norm() for delta, x in zip(wanted, xs, strict=True))
    assert slope.norm() < 1e-5 * scale
    if not weight:
        torch.testing.assert_close(merged.float(), gradient_fusion_delta(site, 1e-3))


def test_contrast_leaves_a_concepts_outputs_further_from_the_others_than_fusion_does():
    adapters = [lora_adapter(3), lora_adapter(4)]
    xs = [inputs(seed) for seed in range(2)]
    site = MergeSite(WEIGHT, adapters, [1.0, 1.0], [x.T @ x for x in xs])

    def distance(merged: torch.Tensor) -> float:
        return sum(
            (x @ (merged - other.delta(WEIGHT)).T).norm().item() for x, other in zip(xs, adapters[::-1], strict=True)
        )

    assert distance(contrast(site, 0.5)) > distance(gradient_fusion_delta(site))


def test_automatic_strengths_are_the_minimum_in_the_span_of_the_changes():
    adapters = [lora_adapter(3), full_adapter(4), lora_adapter(5)]
    xs = [inputs(seed) for seed in range(3)]
    site = MergeSite(WEIGHT, adapters, [1.0, 0.5, 1.5], [x.T @ x for x in xs])
    raw = torch.stack([adapter.delta(WEIGHT) for adapter in adapters]).double()
    merged = automatic_strengths(site, 1e-9).double()
    chosen = torch.linalg.lstsq(raw.flatten(1).T, merged.flatten()[:, None]).solution[:, 0]
    torch.testing.assert_close((chosen[:, None, None] * raw).sum(0), merged, rtol=1e-4, atol=1e-4)
    chosen = chosen.requires_grad_()
    objective = sum(
        ((delta.double() - (chosen[:, None, None] * raw).sum(0)) @ x.double().T).square().sum()
        for delta, x in zip(dense(site), xs, strict=True)
    )
    assert isinstance(objective, torch.Tensor)
    (slope,) = torch.autograd.grad(objective, chosen)
    assert slope.norm() < 1e-3 * objective


def test_automatic_strengths_of_concepts_that_read_different_inputs_are_those_given():
    adapters = [lora_adapter(3), lora_adapter(4)]
    with torch.no_grad():
        for adapter, left_out in zip(adapters, (slice(0, 12), slice(12, 24)), strict=True):
            adapter.down[:, left_out] = 0
    xs = [inputs(0), inputs(1)]
    xs[0][:, :12], xs[1][:, 12:] = 0, 0
    site = MergeSite(WEIGHT, adapters, [0.7, 1.3], [x.T @ x for x in xs])
    torch.testing.assert_close(automatic_strengths(site), MERGES["fedavg"](site), rtol=1e-4, atol=1e-5)


def test_magnitude_brings_all_changes_to_one_norm():
    adapters = [lora_adapter(3), full_adapter(4), Lora(WEIGHT, Lora.Config(rank=2))]
    deltas = [adapter.delta(WEIGHT) for adapter in adapters]
    assert not deltas[2].any()
    mean = (deltas[0].norm() * deltas[1].norm()).sqrt()
    expected = sum(s * mean * d / d.norm() for s, d in zip((1.0, 0.5), deltas[:2], strict=True))
    torch.testing.assert_close(magnitude(MergeSite(WEIGHT, adapters, [1.0, 0.5, 2.0])), expected)


def test_gradient_fusion_keeps_each_concept_on_its_own_inputs():
    adapters = [lora_adapter(3), lora_adapter(4)]
    first, second = inputs(0), inputs(1)
    first[:, :12], second[:, 12:] = 0, 0  # they read different halves
    merged = gradient_fusion_delta(MergeSite(WEIGHT, adapters, [1.0, 1.0], [first.T @ first, second.T @ second]), 1e-6)
    for adapter, x in zip(adapters, (first, second), strict=True):
        torch.testing.assert_close(x @ merged.T, x @ adapter.delta(WEIGHT).T, rtol=1e-3, atol=1e-3)


def test_gradient_fusion_of_a_singular_gram_is_the_least_change():
    x = inputs(0)
    x[:, 5:] = 0
    site = MergeSite(WEIGHT, [lora_adapter(3), lora_adapter(4)], [1.0, 1.0], [x.T @ x, x.T @ x])
    merged = gradient_fusion_delta(site, ridge=0.0)
    half = dense(site).mean(0)
    torch.testing.assert_close(merged[:, :5], half[:, :5], rtol=1e-3, atol=1e-4)
    assert merged[:, 5:].abs().max() < 1e-6


def test_gradient_fusion_where_no_concept_reads_a_layer_is_the_sum():
    nothing = torch.zeros(24, 24)
    site = MergeSite(WEIGHT, [lora_adapter(3), lora_adapter(4)], [1.0, 1.0], [nothing, nothing])
    torch.testing.assert_close(gradient_fusion_delta(site), dense(site).sum(0))


def test_gradient_fusion_needs_grams():
    with pytest.raises(StudioError, match="needs the Gram matrices of the layers' inputs"):
        gradient_fusion_delta(MergeSite(WEIGHT, [lora_adapter(3), lora_adapter(4)], [1.0, 1.0]))


def test_an_indefinite_matrix_still_has_its_solution():
    basis = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    values = torch.tensor([4.0, 3, 2, 1, 1e-13, -1e-12], dtype=torch.float64)
    matrix = ((basis * values) @ basis.T).float()
    target = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    found = ridge_solution(matrix, target @ matrix)
    torch.testing.assert_close(found @ matrix, target @ matrix, rtol=1e-4, atol=1e-5)


def test_trimming_keeps_the_largest_entries():
    delta = torch.tensor([[1.0, -5.0, 3.0], [0.5, 4.0, -2.0]])
    assert trim(delta, 0.5).tolist() == [[0, -5, 3], [0, 4, 0]]
    assert trim(delta, 1 / 6).tolist() == [[0, -5, 0], [0, 0, 0]]
    assert torch.equal(trim(delta, 1.0), delta)


def test_ties_by_its_definition():
    adapters, strengths = [lora_adapter(3), full_adapter(4), spectral_adapter(0)], [1.0, -0.5, 2.0]
    site = MergeSite(WEIGHT, adapters, strengths)
    merged = ties(site, density=0.4)
    kept = [trim(delta, 0.4) * strength for strength, delta in site.parts()]
    for row, column in ((0, 0), (3, 7), (19, 23), (10, 4)):
        values = [part[row, column].item() for part in kept]
        sign = 1 if sum(values) > 0 else -1
        agreeing = [value for value in values if value * sign > 0]
        expected = sum(agreeing) / len(agreeing) if agreeing else 0
        assert merged[row, column].item() == pytest.approx(expected, rel=1e-5)


def test_dare_keeps_the_mean_and_follows_from_the_site():
    weight = torch.zeros(300, 24)
    adapters = [lora_adapter(3, weight), lora_adapter(4, weight)]
    site = MergeSite(weight, adapters, [1.0, 0.5], name="here")
    parts = dense(site)
    merged = dare(site, density=0.25)
    assert torch.equal(merged, dare(site, density=0.25))
    assert not torch.equal(merged, dare(MergeSite(weight, adapters, [1.0, 0.5], name="there"), density=0.25))
    alone = dare(MergeSite(weight, adapters, [1.0, 0.0], name="here"), density=0.25)
    assert (alone != 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(alone[alone != 0], 4 * parts[0][alone != 0])
    whole = parts.sum(0)
    kept_sum = (merged * whole).sum() / whole.square().sum()
    assert kept_sum.item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("others", [[lora_adapter(3), lora_adapter(5)], [lora_adapter(3), full_adapter(4)]])
def test_svd_is_the_best_of_its_rank(others: list[Adapter]):
    site = MergeSite(WEIGHT, others, [1.0, 0.5])
    u, s, v = torch.linalg.svd(dense(site).sum(0), full_matrices=False)
    for rank in (2, 5):
        best = (u[:, :rank] * s[:rank]) @ v[:rank]
        torch.testing.assert_close(svd(site, rank), best, rtol=1e-3, atol=1e-3)
    assert torch.linalg.matrix_rank(svd(site), rtol=1e-4) == (5 if isinstance(others[1], Lora) else 20)


def test_custom_diffusion_is_the_papers_closed_form():
    """Kumari et al., 2023, section 3.2: W = W0 + vᵀ d with d = C (C_regᵀ C_reg)⁻¹ and vᵀ = (V − W0 Cᵀ) (d Cᵀ)⁻¹."""
    torch.manual_seed(0)
    adapters = [lora_adapter(4), full_adapter(2)]
    named = [inputs(seed, count=3) for seed in (5, 6)]
    regular = inputs(7, count=100)
    grams = [rows.mT @ rows for rows in named]
    name, preserved = "unet.attn2.to_k", regular.mT @ regular
    merged = custom_diffusion(MergeSite(WEIGHT, adapters, [1.0, 0.5], grams, name, preserved), ridge=1e-8)
    targets, wanted = torch.cat(named).double(), []
    for adapter, strength, rows in zip(adapters, [1.0, 0.5], named, strict=True):
        wanted.append(strength * adapter.delta(WEIGHT).double() @ rows.mT.double())
    covariance = regular.mT.double() @ regular.double()
    d = targets @ covariance.inverse()
    expected = torch.cat(wanted, 1) @ (d @ targets.mT).inverse() @ d
    assert ((merged - expected).norm() / expected.norm()).item() < 1e-3
    for rows, outputs in zip(named, wanted, strict=True):
        kept = merged.double() @ rows.mT.double()
        assert ((kept - outputs).norm() / outputs.norm()).item() < 1e-3


def test_custom_diffusion_needs_the_inputs_and_merges_other_layers_by_gradient_fusion():
    adapters, gram = [lora_adapter(4), full_adapter(2)], torch.eye(24)
    elsewhere = MergeSite(WEIGHT, adapters, [1.0, 1.0], [gram, gram], "unet.attn1.to_q", gram)
    assert torch.equal(custom_diffusion(elsewhere), MERGES["gradient_fusion_preserving"](elsewhere))
    with pytest.raises(StudioError, match="needs the Gram matrices"):
        custom_diffusion(MergeSite(WEIGHT, adapters, [1.0, 1.0], name="unet.attn2.to_v"))
