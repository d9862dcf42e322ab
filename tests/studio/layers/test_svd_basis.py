from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.layers import svd_basis
from studio.layers.svd_basis import Decomposition, SingularColumns, fingerprint, singular_columns
from studio.layers.target_modules import Site


def with_values(values: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix of these singular values and random singular vectors."""
    left, right = (torch.linalg.qr(torch.randn(n, len(values), dtype=torch.float64))[0] for n in (rows, columns))
    return (left * values @ right.T).float()


MATRICES = {
    "tall": lambda: torch.randn(40, 24),
    "wide": lambda: torch.randn(24, 40),
    "square": lambda: torch.randn(64, 64) / 8,
    "ill-with_control": lambda: with_values(torch.logspace(0, -7, 24, dtype=torch.float64), 30, 24),
    "rank-deficient": lambda: torch.randn(30, 5) @ torch.randn(5, 24),
    "zero": lambda: torch.zeros(12, 16),
}


@pytest.mark.parametrize("kind", MATRICES)
def test_columns_keep_the_stated_bound(kind: str):
    torch.manual_seed(0)
    weight = MATRICES[kind]()
    columns = singular_columns(weight)
    u, s, v = (part.double() for part in (columns.u, columns.s, columns.v))
    assert s.diff().max() <= 0
    assert (weight.double() @ v - u * s).norm(dim=0).max() <= 1e-6 * s[0]
    assert (weight.double().T @ u - v * s).norm(dim=0).max() <= 1e-4 * s[0]
    for vectors in (u, v):
        assert (vectors.T @ vectors - torch.eye(len(s))).abs().max() <= 1e-6
    assert (u.gather(0, u.abs().argmax(0, keepdim=True)) > 0).all()


def test_few_columns_of_many_keep_the_bound_and_are_those_of_all():
    torch.manual_seed(0)
    weight = with_values(torch.linspace(4, 0.1, 200, dtype=torch.float64), 200, 260)
    few, every = singular_columns(weight, 20), singular_columns(weight)
    u, s, v = (part.double() for part in (few.u, few.s, few.v))
    assert (weight.double() @ v - u * s).norm(dim=0).max() <= 1e-6 * s[0]
    assert (weight.double().T @ u - v * s).norm(dim=0).max() <= 1e-4 * s[0]
    for vectors in (u, v):
        assert (vectors.T @ vectors - torch.eye(20)).abs().max() <= 1e-6
    assert (few.u * every.u[:, :20]).sum(0).min() > 1 - 1e-6
    torch.testing.assert_close(few.s, every.s[:20], rtol=1e-6, atol=0)


def test_the_first_columns_are_those_of_all_and_the_same_every_time():
    torch.manual_seed(0)
    weight = torch.randn(40, 24)
    first, every, again = singular_columns(weight, 6), singular_columns(weight), singular_columns(weight, 6)
    assert first.u.shape == (40, 6)
    for part in ("u", "s", "v"):
        assert torch.equal(getattr(first, part), getattr(again, part))
        torch.testing.assert_close(getattr(first, part), getattr(every, part)[..., :6])


def test_signs_do_not_depend_on_the_matrix_around_them():
    torch.manual_seed(0)
    weight = torch.randn(40, 24)
    columns, transposed = singular_columns(weight), singular_columns(weight.T.contiguous())
    flips = (columns.u * transposed.v).sum(0)
    torch.testing.assert_close(flips.abs(), torch.ones(24))
    torch.testing.assert_close(columns.v, transposed.u * flips)


def test_a_block_is_a_copy_of_its_columns():
    columns = SingularColumns(torch.randn(5, 4), torch.rand(4), torch.randn(6, 4))
    block = columns.block(0, 4)
    block.u.zero_()
    assert columns.u.any()
    assert torch.equal(columns.block(1, 2).v, columns.v[:, 1:3])
    with pytest.raises(StudioError, match="column 4 was requested, and 4 are stored"):
        columns.block(3, 2)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The weights that were decomposed since."""
    weights: list[Tensor] = []

    def count(weight: Tensor, kept: int | None = None) -> SingularColumns:
        weights.append(weight)
        return singular_columns(weight, kept)

    monkeypatch.setattr(svd_basis, "singular_columns", count)
    return weights


def test_columns_are_computed_once_and_stored(sites: dict[str, Site], tmp_path: Path, counted: list[Tensor]):
    name = next(iter(sites))
    made = Decomposition.of(sites, tmp_path / "cache")
    assert not counted
    columns = made.columns(name)
    assert made.columns(name) is columns
    assert len(counted) == len(sites)
    stored = Decomposition.of(sites, tmp_path / "cache")
    assert torch.equal(stored.columns(name).u, columns.u)
    assert torch.equal(stored.columns(name).v, columns.v)
    assert len(counted) == len(sites)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert made.capacity == columns.s.shape[0] == 32


def test_the_stored_file_has_the_usual_permissions(sites: dict[str, Site], tmp_path: Path):
    (tmp_path / "plain").touch()
    Decomposition.of(sites, tmp_path / "cache").columns(next(iter(sites)))
    (stored,) = (tmp_path / "cache").iterdir()
    assert stored.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("damage", ["torn", "empty", "other base", "bare", "flipped bit"])
def test_a_damaged_or_foreign_file_is_replaced(
    sites: dict[str, Site], tmp_path: Path, counted: list[Tensor], damage: str
):
    name = next(iter(sites))
    good = Decomposition.of(sites, tmp_path).columns(name)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    fewer = {key: site for key, site in sites.items() if key != name}
    Decomposition.of(fewer, tmp_path / "other").columns(next(iter(fewer)))
    (other,) = (tmp_path / "other").iterdir()
    bare = content.replace(f'"{name}/u"'.encode(), f'"{name}/x"'.encode())
    flipped = bytearray(content)
    flipped[-1000] ^= 1
    contents = {
        "flipped bit": bytes(flipped),
        "torn": content[:-100],
        "empty": b"",
        "other base": other.read_bytes(),
        "bare": bare,
    }
    path.write_bytes(contents[damage])
    counted.clear()
    remade = Decomposition.of(sites, tmp_path).columns(name)
    assert len(counted) == len(sites)
    assert torch.equal(remade.u, good.u)
    assert path.read_bytes() == content


def test_the_fingerprint_follows_the_weights_alone(sites: dict[str, Site], unet: nn.Module):
    before = fingerprint(sites)
    site = next(iter(sites.values()))
    site.module.weight.data.copy_(site.module.weight.data.half())
    rounded = fingerprint({site.name: site})
    assert fingerprint(sites) != before
    site.module.half()
    assert fingerprint({site.name: site}) == rounded
    site.module.weight.data[0, 0] += 1
    assert fingerprint({site.name: site}) != rounded
    assert len(before) == 16


def test_an_unknown_site_is_refused(sites: dict[str, Site]):
    with pytest.raises(StudioError, match="no adapted layer elsewhere"):
        Decomposition.of(sites).columns("elsewhere")
