from typing import Any

import pytest
import torch

from concepts.errors import StudioError
from studio.adapters import ADAPTERS, Adapter, SiteContext
from studio.adapters.ada_lora import AdaLora
from studio.adapters.boft import Boft
from studio.adapters.concept_file import trained_states
from studio.adapters.glora import Glora
from studio.adapters.krona import Krona
from studio.adapters.lidb import Lidb
from studio.adapters.lokr import Lokr
from studio.adapters.lora import Lora
from studio.adapters.lora_xs import LoraXs
from studio.adapters.oft import Oft
from studio.adapters.orthogonal import Orthogonal
from studio.adapters.sequential import Hydra
from studio.adapters.spectral_additive import SpectralAdditive
from studio.adapters.spectral_rotational import SpectralRotational
from studio.adapters.svdiff import Svdiff
from studio.adapters.vera import Vera
from studio.layers.random_bases import orthogonal_rows
from studio.layers.svd_basis import singular_columns

RANKED = [name for name, method in ADAPTERS.items() if "rank" in method.Config.__dataclass_fields__]


@pytest.mark.parametrize(
    "name", [name for name in RANKED if name not in ("oft", "vera", "lokr", "spectral_rotational")]
)
@pytest.mark.parametrize("rank", [0, -1, 9])
def test_a_rank_outside_the_range_is_refused_with_the_range(name: str, rank: int):
    method = ADAPTERS[name]
    with pytest.raises(StudioError, match=rf"rank {rank} is outside the range at unet\.x\. Choose one from 1 to 8\."):
        method(torch.randn(8, 12), method.Config(rank=rank), SiteContext(name="unet.x"))
    method(torch.randn(8, 12), method.Config(rank=8))


@pytest.mark.parametrize("rank", [0, -1, 5, 8, 12])
def test_blocks_that_do_not_divide_the_input_are_refused(rank: int):
    with pytest.raises(
        StudioError,
        match=rf"rank {rank} is impossible at unet\.x\. Choose one that divides 12 into blocks of 2 or more",
    ):
        Oft.check((8, 12), Oft.Config(rank=rank), "unet.x")
    for good in (1, 2, 3, 4, 6):
        Oft.check((8, 12), Oft.Config(rank=good))


def test_vera_takes_a_rank_above_the_matrix_and_its_low_rank_form_does_not():
    adapter = Vera(torch.randn(8, 12), Vera.Config(rank=40))
    torch.nn.init.normal_(adapter.b)
    assert adapter.low_rank(torch.randn(8, 12)).rank == 8
    with pytest.raises(StudioError, match=r"rank 0 is outside the range\. Choose one from 1 to 65536"):
        Vera.check((8, 12), Vera.Config(rank=0))


@pytest.mark.parametrize("first", [-1, 6])
@pytest.mark.parametrize("method", [SpectralAdditive, SpectralRotational, Orthogonal])
def test_columns_that_do_not_exist_are_refused(method: type[Adapter], first: int):
    config = method.Config(rank=3, first_column=first)
    with pytest.raises(StudioError, match=r"for rank 3. Choose one from 0 to 5"):
        method.check((8, 12), config)
    method.check((8, 12), method.Config(rank=3, first_column=5))


@pytest.mark.parametrize(
    ("method", "options", "complaint"),
    [
        (Glora, {"bias_sum": "low_rank"}, "GLoRA's E cannot be 'low_rank'. Choose from vector, scalar, none"),
        (Glora, {"product": "matrix"}, "GLoRA's A cannot be 'matrix'. Choose from low_rank, vector, scalar, none"),
        (AdaLora, {"rank": 4, "target_rank": 5}, "target rank 5 is outside the range. Choose one from 1 to 4"),
        (AdaLora, {"warm_up": 0.8, "final": 0.3}, "sum is at most 1"),
        (Lidb, {"rank": 5, "out_size": 4}, "rank 5 is outside the range. Choose one from 1 to 4"),
        (Krona, {"factor": 0}, "factor 0 is outside the range. Choose one from 1"),
        (SpectralRotational, {"rank": 1}, "rank 1 is outside the range. Choose one from 2 to 8"),
        (SpectralRotational, {"rank": 9, "train_scale": True}, "rank 9 is outside the range. Choose one from 1 to 8"),
    ],
)
def test_options_out_of_range_are_refused(method: type[Adapter], options: dict[str, Any], complaint: str):
    with pytest.raises(StudioError, match=complaint):
        method.check((8, 12), method.Config(**options))


def test_a_rotation_keeps_columns_orthonormal_and_can_be_resumed():
    torch.manual_seed(0)
    weight = torch.randn(10, 14)
    adapter = SpectralRotational(weight, SpectralRotational.Config(4, first_column=1, train_scale=True))
    torch.nn.init.normal_(adapter.skew)
    before = adapter.delta(weight)
    rotation_change = adapter.rotation_change() + torch.eye(4)
    torch.testing.assert_close(rotation_change @ rotation_change.mT, torch.eye(4).expand(2, 4, 4), rtol=0, atol=1e-5)
    adapter.rebase()
    assert not adapter.skew.any()
    torch.testing.assert_close(adapter.delta(weight), before)
    torch.nn.init.normal_(adapter.skew, std=0.3)
    further = adapter.delta(weight)
    assert (further - before).norm() > 0.1 * before.norm()
    stored = SpectralRotational(weight, adapter.config)
    stored.load_state_dict(adapter.trained_state())
    torch.testing.assert_close(stored.delta(weight), further, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(stored.delta(weight, 0.3), adapter.delta(weight, 0.3), rtol=1e-4, atol=1e-4)


def test_spectral_rotational_is_its_definition():
    torch.manual_seed(0)
    weight = torch.randn(10, 14)
    adapter = SpectralRotational(weight, SpectralRotational.Config(3, first_column=2))
    torch.nn.init.normal_(adapter.skew)
    rotation_u, rotation_v = adapter.rotation_change() + torch.eye(3)
    turned = adapter.u @ rotation_u * adapter.s @ (adapter.v @ rotation_v).mT
    torch.testing.assert_close(adapter.delta(weight), turned - adapter.u * adapter.s @ adapter.v.mT)


def test_the_rotation_preserves_the_spectrum_at_every_strength():
    weight = torch.randn(12, 12)
    adapter = Oft(weight, Oft.Config(rank=3, shared=False))
    torch.nn.init.normal_(adapter.skew)
    for strength in (0.3, 1.0, 2.0):
        changed = weight + adapter.delta(weight, strength)
        torch.testing.assert_close(torch.linalg.svdvals(changed), torch.linalg.svdvals(weight), rtol=1e-4, atol=1e-4)


def test_svdiff_never_turns_a_singular_value_negative():
    weight = torch.randn(8, 12)
    adapter = Svdiff(weight, Svdiff.Config())
    adapter.shift.data.fill_(-100.0)
    torch.testing.assert_close(weight + adapter.delta(weight), torch.zeros(8, 12), rtol=0, atol=1e-5)


def test_concepts_of_orthogonal_adaptation_use_orthogonal_rows():
    weight = torch.randn(8, 12)
    first, second = (Orthogonal(weight, Orthogonal.Config(rank=3, first_column=c)) for c in (0, 3))
    rows = torch.cat([first.down, second.down])
    torch.testing.assert_close(rows @ rows.mT, torch.eye(6), rtol=0, atol=1e-6)


def test_glora_is_its_definition_with_a_bias():
    torch.manual_seed(0)
    weight, bias = torch.randn(8, 12), torch.randn(8)
    adapter = Glora(weight, Glora.Config(2, "low_rank", "low_rank", "low_rank", "vector", "vector"))
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    t = adapter.state_dict()
    delta = weight @ t["a.up"] @ t["a.down"] + t["b.up"] @ t["b.down"]
    torch.testing.assert_close(adapter.delta(weight), delta, rtol=1e-4, atol=1e-4)
    change = (weight @ t["c.up"] @ t["c.down"])[:, 0] + t["d.up"][:, 0] * bias + t["e.up"][:, 0]
    torch.testing.assert_close(adapter.bias_delta(weight, bias), change, rtol=1e-4, atol=1e-4)


def test_hydra_changes_the_bias_through_its_sequential_branch():
    torch.manual_seed(0)
    weight, bias = torch.randn(8, 12), torch.randn(8)
    adapter = Hydra(weight, Hydra.Config(rank=2))
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    behind = adapter.sequential_up @ adapter.sequential_down
    torch.testing.assert_close(adapter.delta(weight), behind @ weight + adapter.up @ adapter.down, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(adapter.bias_delta(weight, bias), behind @ bias)


def test_ada_lora_prunes_what_matters_least_to_its_budget():
    torch.manual_seed(0)
    config = AdaLora.Config(rank=4, target_rank=2, warm_up=0.2, final=0.2)
    adapters = {name: AdaLora(torch.zeros(8, 12), config, SiteContext(name=name)) for name in ("a", "b")}
    useful = torch.tensor([1.0, 1.0, 1.0, 1.0, 0, 0, 0, 0]).split(4)
    optimizer = torch.optim.SGD([p for a in adapters.values() for p in a.parameters()], lr=0.1)
    kept = []
    for step in range(1, 51):
        optimizer.zero_grad()
        for adapter, weights in zip(adapters.values(), useful, strict=True):
            (-(adapter.values * weights).sum() + adapter.penalty()).backward()
        optimizer.step()
        AdaLora.after_step(adapters, step, 50)
        kept.append(sum(int(a.values.count_nonzero()) for a in adapters.values()))
    assert kept[:9] == [4] * 9
    assert kept[-1] == 4
    assert int(adapters["a"].values.count_nonzero()) == 4
    assert not adapters["b"].values.any()


def test_ada_lora_stores_the_triplets_that_are_left():
    torch.manual_seed(0)
    weight, config = torch.randn(8, 12), AdaLora.Config(rank=4)
    adapter = AdaLora(weight, config)
    torch.nn.init.normal_(adapter.values)
    assert len(adapter.trained_state()["values"]) == 4
    adapter._kept = torch.tensor([1.0, 0, 0, 1])
    adapter.values.data *= adapter._kept
    state = adapter.trained_state()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "left": (8, 2), "values": (2,), "right": (2, 12),
    }  # fmt: skip
    again = AdaLora(weight, config)
    again.load_trained(state)
    torch.testing.assert_close(again.delta(weight), adapter.delta(weight))
    assert again.low_rank(weight).rank == 2
    AdaLora.after_step({"a": again}, 9, 9)
    assert len(again.trained_state()["values"]) == 2
    adapter._kept = torch.zeros(4)
    assert trained_states({"a": again, "b": adapter}).keys() == {"a"}
    with pytest.raises(RuntimeError):
        AdaLora(weight, config).load_trained({**state, "left": torch.zeros(9, 2)})


@pytest.mark.parametrize("basis", ["top", "bottom", "random_orthogonal", "random_svd"])
@pytest.mark.parametrize("singular_values", [True, False])
def test_lora_xs_is_its_definition(basis: str, singular_values: bool):
    torch.manual_seed(0)
    weight = torch.randn(10, 14)
    adapter = LoraXs(weight, LoraXs.Config(3, 6.0, basis, singular_values, seed=5))  # pyright: ignore[reportArgumentType]
    torch.nn.init.normal_(adapter.core)
    if basis == "random_orthogonal":
        u, v = (orthogonal_rows(seed, side, 0, 3, weight.device).T for seed, side in ((10, 10), (11, 14)))
        s = torch.ones(3)
    else:
        generator = torch.Generator().manual_seed(5)
        of = torch.randn(10, 14, generator=generator) / 14**0.5 if basis == "random_svd" else weight
        u, s, vt = torch.linalg.svd(of)
        chosen = slice(7, 10) if basis == "bottom" else slice(0, 3)
        u, s, v = u[:, chosen], s[chosen], vt[chosen].T
        signs = torch.sign(u.gather(0, u.abs().argmax(0, keepdim=True)))
        u, v = u * signs, v * signs
    torch.testing.assert_close(u.T @ u, torch.eye(3), rtol=0, atol=1e-5)
    expected = 2 * u @ adapter.core @ torch.diag(s if singular_values else torch.ones(3)) @ v.T
    torch.testing.assert_close(adapter.delta(weight), expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_basis_is_refused():
    with pytest.raises(StudioError, match="'middle' is none of them"):
        LoraXs(torch.zeros(8, 12), LoraXs.Config(3, basis="middle"))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("name", "options", "pairs"),
    [
        ("hydra", {"rank": 4}, [("down", "sequential_down")]),
        ("glora", {"bias_from_weight": "low_rank"}, [("a.down", "b.down"), ("a.down", "c.down")]),
        ("ada_lora", {"rank": 4}, [("left", "right")]),
    ],
)
def test_random_matrices_of_one_adapter_are_independent(name: str, options: dict, pairs: list[tuple[str, str]]):
    method = ADAPTERS[name]
    state = method(torch.randn(64, 64), method.Config(**options), SiteContext(name="site")).state_dict()
    for one, other in pairs:
        flat = [state[key].flatten()[: 4 if "c." in other else None] for key in (one, other)]
        if "c." in other:
            assert not torch.allclose(flat[0] / flat[0].norm(), flat[1] / flat[1].norm())
        else:
            assert abs(torch.corrcoef(torch.stack(flat))[0, 1].item()) < 0.2


def test_initial_values_are_those_of_the_published_codes():
    context = SiteContext(name="site")
    hydra = Hydra(torch.zeros(256, 256), Hydra.Config(), context)
    ada_lora = AdaLora(torch.zeros(256, 256), AdaLora.Config(), context)
    for tensor in (hydra.down, hydra.sequential_down, ada_lora.left, ada_lora.right):
        assert tensor.std().item() == pytest.approx(0.02, rel=0.05)
    assert not hydra.up.any()
    assert not ada_lora.values.any()


def test_ada_loras_penalty_is_zero_for_orthonormal_factors_only():
    adapter = AdaLora(torch.zeros(8, 12), AdaLora.Config(rank=3))
    adapter.left.data, adapter.right.data = torch.eye(8)[:, :3], torch.eye(12)[:3]
    assert adapter.penalty().item() < 1e-10
    adapter.left.data *= 2
    assert adapter.penalty().item() == pytest.approx(0.1 * 3 * 9.0, rel=1e-5)


@pytest.mark.parametrize("name", ADAPTERS)
def test_vectors_that_do_not_start_at_zero_have_no_weight_decay(name: str):
    method = ADAPTERS[name]
    weight = torch.randn(16, 16)
    adapter = method(weight, method.Config(), SiteContext(role="branch_end"))
    # Matrices that start at random have no rest value; vectors that start elsewhere than at zero have one.
    resting = {key for key, p in adapter.named_parameters() if p.ndim == 1 and p.any()}
    assert resting == method.no_decay


def test_lora_starts_from_the_seed_and_the_name():
    def down(seed: int, name: str) -> torch.Tensor:
        return Lora(torch.zeros(8, 12), Lora.Config(), SiteContext(seed=seed, name=name)).down

    assert torch.equal(down(1, "a"), down(1, "a"))
    assert not torch.equal(down(1, "a"), down(1, "b"))
    assert not torch.equal(down(1, "a"), down(2, "a"))


def test_loras_alpha_scales_the_delta_by_alpha_over_rank():
    weight = torch.zeros(8, 12)
    adapter = Lora(weight, Lora.Config(rank=4, alpha=2.0))
    torch.nn.init.normal_(adapter.up)
    torch.testing.assert_close(adapter.delta(weight), adapter.up @ adapter.down / 2)


@pytest.mark.parametrize("method", [SpectralAdditive, SpectralRotational])
def test_columns_are_those_of_their_names(method: type):
    torch.manual_seed(0)
    weight = torch.randn(10, 14)
    u, s, vt = torch.linalg.svd(weight)

    def spans(config: Any, chosen: list[int]) -> bool:
        own = method(weight, config).columns
        torch.testing.assert_close(own.s, s[chosen], rtol=1e-4, atol=1e-4)
        product = (own.u * own.s) @ own.v.T
        return torch.allclose(product, (u[:, chosen] * s[chosen]) @ vt[chosen], atol=1e-4)

    assert spans(method.Config(3, first_column=2), [2, 3, 4])
    assert spans(method.Config(3, first_column=2, columns="bottom"), [5, 6, 7])
    assert spans(method.Config(3, indices=(8, 0, 5)), [8, 0, 5])
    kept = SiteContext(singular_columns(weight, 4))
    assert torch.equal(method(weight, method.Config(3, columns="bottom"), kept).s, singular_columns(weight).s[7:])
    assert torch.equal(method(weight, method.Config(2, indices=(1, 9)), kept).s, singular_columns(weight).s[[1, 9]])
    first, second = (method(weight, method.Config(3, first_column=c, columns="random_basis")) for c in (0, 3))
    together = torch.cat([first.u, second.u], 1)
    torch.testing.assert_close(together.T @ together, torch.eye(6), rtol=0, atol=1e-5)
    assert first.s.tolist() == pytest.approx([weight.norm().item() / 10**0.5] * 3, rel=1e-5)
    assert not torch.allclose(first.u, method(weight, method.Config(3, columns="random_basis", seed=1)).u)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": "middle"}, "'middle' is none of them"),
        ({"scale_form": "square"}, "'square' is none of them"),
        ({"rank": 2, "indices": (1, 1)}, "different indices"),
        ({"rank": 2, "indices": (1, 2), "columns": "bottom"}, "leave the option columns out"),
        ({"rank": 2, "indices": (1, 8)}, r"column 8 is outside the range\. Choose one from 0 to 7"),
    ],
)
def test_unknown_columns_and_forms_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(StudioError, match=message):
        SpectralAdditive.check((8, 12), SpectralAdditive.Config(**options))


@pytest.mark.parametrize("method", [SpectralAdditive, SpectralRotational])
def test_a_scale_is_a_factor_or_a_summand(method: type):
    torch.manual_seed(0)
    weight = torch.randn(10, 14)
    for form in ("factor", "summand"):
        adapter = method(weight, method.Config(3, train_scale=True, scale_form=form))
        adapter.change_s.data = torch.tensor([0.5, 0.0, -1.0])
        s = adapter.s * (1 + 0.5 * adapter.change_s) if form == "factor" else adapter.s + 0.5 * adapter.change_s
        expected = (adapter.u * (s - adapter.s)) @ adapter.v.T
        torch.testing.assert_close(adapter.delta(weight, 0.5), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("train_scale", [False, True])
@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_spectral_additive_is_its_definition(train_scale: bool, strength: float):
    torch.manual_seed(0)
    weight = torch.randn(10, 14)
    adapter = SpectralAdditive(weight, SpectralAdditive.Config(3, first_column=2, train_scale=train_scale))
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    u, s, vt = torch.linalg.svd(weight, full_matrices=False)
    signs = (u[:, 2:5] * adapter.u).sum(0).round()
    u, s, v = u[:, 2:5] * signs, s[2:5], vt[2:5].T * signs
    scale = 1 + strength * adapter.change_s if adapter.change_s is not None else 1
    changed = (u + strength * adapter.change_u) * s * scale @ (v + strength * adapter.change_v).T
    torch.testing.assert_close(adapter.delta(weight, strength), changed - u * s @ v.T, rtol=1e-4, atol=1e-4)


def test_the_bases_columns_are_used_and_not_saved():
    weight = torch.randn(10, 14)
    columns = singular_columns(weight, 6)
    adapter = SpectralAdditive(weight, SpectralAdditive.Config(2, first_column=4), SiteContext(columns))
    assert torch.equal(adapter.u, columns.u[:, 4:])
    assert adapter.state_dict().keys() == {"change_u", "change_v"}
    with pytest.raises(StudioError, match="6 are stored"):
        SpectralAdditive(weight, SpectralAdditive.Config(2, first_column=5), SiteContext(columns))


def test_butterfly_factors_are_the_product_written_out_and_connect_all_features():
    torch.manual_seed(0)
    weight, config = torch.randn(6, 16), Boft.Config(block_size=4, num_factors=3)
    adapter = Boft(weight, config)
    torch.nn.init.normal_(adapter.skew)
    # Factor i brings together blocks of half the size, 2, that are 1, 2 and 4 such halves apart
    orders = [
        list(range(16)),
        [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15],
        [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15],
    ]
    rotation = torch.eye(16)
    for order, changes in zip(orders, adapter.rotation_changes(), strict=True):
        factor = torch.zeros(16, 16)
        turned = torch.block_diag(*(torch.eye(4) + changes))
        factor[torch.tensor(order)[:, None], torch.tensor(order)] = turned
        rotation = rotation @ factor
    torch.testing.assert_close(adapter.delta(weight), weight @ rotation - weight, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(16), rtol=1e-5, atol=1e-5)
    assert (rotation.abs() > 1e-9).all()


@pytest.mark.parametrize(("size", "count"), [(3, 1), (8, 1), (4, 3), (0, 1), (2, 0)])
def test_butterfly_blocks_that_do_not_fit_are_refused(size: int, count: int):
    with pytest.raises(StudioError, match=r"impossible at unet\.x\. Choose an even block_size .* divides 12"):
        Boft.check((8, 12), Boft.Config(block_size=size, num_factors=count), "unet.x")


def test_krona_adds_the_input_in_square_layers_only():
    weight, x = torch.randn(8, 8), torch.randn(3, 8)
    adapter = Krona(weight, Krona.Config(residual=True))
    torch.nn.init.constant_(adapter.residual, 0.5)
    torch.testing.assert_close(adapter(x, weight, None), x @ weight.mT + 0.5 * x)
    assert not hasattr(Krona(torch.randn(8, 12), Krona.Config(residual=True)), "residual")


def test_lokr_of_a_high_rank_has_a_whole_second_matrix_without_the_scale():
    weight = torch.randn(8, 12)
    adapter = Lokr(weight, Lokr.Config(rank=40, factor=2, alpha=1.0))
    torch.nn.init.normal_(adapter.left)
    torch.testing.assert_close(adapter.delta(weight), torch.kron(adapter.left, adapter.right))
