"""What the papers state of adapted weights, checked on random ones."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.adapters import ADAPTERS, Adapter, SiteContext
from studio.adapters.sequential import Hydra, SeqLora
from studio.adapters.spectral_rotational import SpectralRotational
from studio.metrics.weight_analysis import (
    alignment,
    analyse_weight,
    branches_of,
    magnitude_and_direction,
    rotation_drift,
    shares_of,
)

WEIGHT = torch.randn(40, 48, generator=torch.Generator().manual_seed(0))


def trained(name: str, std: float = 0.2, **options: Any) -> Adapter:
    method = ADAPTERS[name]
    adapter = method(WEIGHT, method.Config(**options), SiteContext(name="unet.x"))
    generator = torch.Generator().manual_seed(len(name))
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=std, generator=generator)
    return adapter


@pytest.mark.parametrize(("name", "capacity"), [("lora", 4), ("spectral_additive", 8), ("pissa", 8), ("lora_xs", 4)])
def test_the_rank_capacity_is_attained(name: str, capacity: int):
    """Zhang and Pilanci, 2024, Lemma 3.1: with the parameters of LoRA at rank r, the additive form has rank 2r."""
    found = analyse_weight(WEIGHT, trained(name, rank=4))
    assert found is not None
    assert found.rank == capacity


@pytest.mark.parametrize(
    ("name", "options"), [("spectral_rotational", {"rank": 6}), ("oft", {"rank": 4}), ("boft", {"block_size": 4})]
)
def test_rotations_keep_the_spectrum_and_others_do_not(name: str, options: dict[str, Any]):
    found = analyse_weight(WEIGHT, trained(name, **options))
    assert found is not None
    assert found.spectrum < 1e-5
    assert found.size > 0.05
    other = analyse_weight(WEIGHT, trained("lora", rank=4))
    assert other is not None
    assert other.spectrum > 0.01


def test_a_chain_of_rotations_stays_orthonormal():
    """Zhang and Pilanci, 2024, Lemma 4.1."""
    adapters = []
    for seed in range(10):
        config = SpectralRotational.Config(rank=8, first_column=seed % 3 * 8)
        adapter = SpectralRotational(WEIGHT, config)
        nn.init.normal_(adapter.skew, generator=torch.Generator().manual_seed(seed))
        adapters.append(adapter)
    drifts = [*rotation_drift(adapters, WEIGHT)]
    assert len(drifts) == 10
    assert max(drift for drift, _ in drifts) < 1e-5
    assert max(spectrum for _, spectrum in drifts) < 1e-5
    with pytest.raises(StudioError, match="Only concepts of spectral_rotational"):
        list(rotation_drift([trained("lora", rank=2)], WEIGHT))


def test_the_drift_is_seen_where_columns_are_not_rotated():
    class Stretched(SpectralRotational):
        def rotation_change(self, strength: float = 1.0) -> Tensor:
            return 0.1 * torch.eye(4).expand(2, 4, 4)

    ((drift, spectrum),) = rotation_drift([Stretched(WEIGHT, SpectralRotational.Config(rank=4))], WEIGHT)
    assert drift == pytest.approx(0.21, rel=1e-3)
    assert spectrum > 0.1


def test_magnitude_and_direction_are_told_apart():
    """Liu et al., 2024, Eq. 3 and 4."""
    magnitude, direction = magnitude_and_direction(WEIGHT, 0.5 * WEIGHT)
    assert magnitude == pytest.approx(0.5 * float(WEIGHT.norm(dim=1).mean()), rel=1e-5)
    assert direction == pytest.approx(0, abs=1e-6)
    turned = WEIGHT.flip(0)[:, torch.randperm(48, generator=torch.Generator().manual_seed(0))]
    turned = turned * (WEIGHT.norm(dim=1) / turned.norm(dim=1))[:, None]
    magnitude, direction = magnitude_and_direction(WEIGHT, turned - WEIGHT)
    assert magnitude == pytest.approx(0, abs=1e-5)
    assert direction == pytest.approx(1, abs=0.1)


def test_of_one_row_doras_magnitude_and_direction_are_the_singular_value_and_vector():
    """There DoRA and the spectral additive form with a trained scale reach the same weights: W' = m v with |v| = 1."""
    row = torch.randn(1, 16, generator=torch.Generator().manual_seed(1))
    dora = ADAPTERS["dora"](row, ADAPTERS["dora"].Config(rank=1), SiteContext(name="unet.x"))
    generator = torch.Generator().manual_seed(2)
    for parameter in dora.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    wanted = row + dora.delta(row).detach()
    u, s, vt = torch.linalg.svd(wanted, full_matrices=False)
    before = torch.linalg.svd(row, full_matrices=False)
    magnitude, direction = magnitude_and_direction(row, wanted - row)
    assert magnitude == pytest.approx(abs(float(s[0] - before.S[0])), rel=1e-4)
    assert direction == pytest.approx(1 - float(u[0, 0] * vt[0] @ (before.U[0, 0] * before.Vh[0])), rel=1e-4)
    method = ADAPTERS["spectral_additive"]
    spectral = method(row, method.Config(rank=1, train_scale=True), SiteContext(name="unet.x"))
    names = dict(spectral.named_parameters())
    optimizer = torch.optim.LBFGS(list(names.values()), max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (row + spectral.delta(row) - wanted).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(row + spectral.delta(row), wanted, rtol=1e-3, atol=1e-4)


def test_the_shares_say_in_which_singular_directions_a_change_lies():
    u = torch.linalg.svd(WEIGHT, full_matrices=False).U
    for index, columns in enumerate((slice(0, 13), slice(13, 27), slice(27, 40))):
        shares = shares_of(u, u[:, columns] @ torch.randn(u[:, columns].shape[1], 48))
        assert shares[index] == pytest.approx(1, abs=1e-4)
        assert sum(shares) == pytest.approx(1, abs=1e-4)
    top = analyse_weight(WEIGHT, trained("lora_xs", rank=4))
    assert top is not None
    assert top.shares[0] == pytest.approx(1, abs=1e-4)
    bottom = analyse_weight(WEIGHT, trained("lora_xs", rank=4, basis="bottom"))
    assert bottom is not None
    assert bottom.shares[2] == pytest.approx(1, abs=1e-4)


def test_the_alignment_is_the_identity_for_no_change_and_mixed_within_rotated_columns():
    method = ADAPTERS["spectral_rotational"]
    fresh = alignment(WEIGHT, method(WEIGHT, method.Config(rank=6)), 12)
    torch.testing.assert_close(fresh, torch.eye(12), rtol=1e-3, atol=1e-3)
    turned = alignment(WEIGHT, trained("spectral_rotational", rank=6), 12)
    assert turned[:6, :6].diagonal().min() < 0.99
    torch.testing.assert_close(turned[6:, 6:], torch.eye(6), rtol=1e-3, atol=1e-3)


def test_hydras_branches_are_its_change():
    adapter = Hydra(WEIGHT, SeqLora.Config(rank=3))
    for parameter in adapter.parameters():
        nn.init.normal_(parameter)
    branches = branches_of(adapter, WEIGHT)
    assert branches.keys() == {"parallel", "sequential"}
    total = sum((branch.dense() for branch in branches.values()), torch.zeros_like(WEIGHT))
    torch.testing.assert_close(total, adapter.delta(WEIGHT), rtol=1e-4, atol=1e-4)
    found = analyse_weight(WEIGHT, adapter)
    assert found is not None
    assert found.branches.keys() == branches.keys()
    assert branches_of(trained("lora", rank=2), WEIGHT) == {}


def test_a_fresh_adapter_has_no_analysis():
    assert analyse_weight(WEIGHT, ADAPTERS["lora"](WEIGHT, ADAPTERS["lora"].Config(rank=2))) is None
