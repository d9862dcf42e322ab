"""The numbers of trained parameters that adapters.md and the papers give for Stable Diffusion 1.5."""

from collections import Counter
from typing import Any

import pytest
import torch

from studio.adapters import ADAPTERS, SiteContext
from studio.layers.target_modules import Role, find_sites
from studio.models.architectures import architecture_parts

PARTS = architecture_parts("sd15")


def counts(adapter: str, **options: Any) -> tuple[int, int]:
    """How many numbers are trained, and how many the paper counts."""
    method = ADAPTERS[adapter]
    config = method.Config(**options)
    sites = find_sites(PARTS, method.kinds(config)).values()
    shapes: Counter[tuple[tuple[int, ...], Role]] = Counter((tuple(site.weight.shape), site.role) for site in sites)
    return (
        sum(count * method.num_parameters(shape, config, role) for (shape, role), count in shapes.items()),
        sum(count * method.num_published_parameters(shape, config, role) for (shape, role), count in shapes.items()),
    )


TRAINED = [
    *(("lora", {"rank": r}, n) for r, n in ((1, 273_024), (2, 546_048), (3, 819_072), (8, 2_184_192))),
    ("spectral_additive", {"rank": 8}, 2_184_192),
    ("spectral_additive", {"rank": 8, "train_scale": True}, 2_185_600),
    *(
        ("spectral_rotational", {"rank": r}, n)
        for r, n in ((2, 352), (8, 9_856), (24, 97_152), (32, 174_592), (40, 274_560))
    ),
    *(("oft", {"rank": r}, n) for r, n in ((64, 13_770), (32, 57_210), (16, 233_100), (8, 940_920))),
    *(("vera", {"rank": r}, n) for r, n in ((1, 136_880), (1024, 316_928), (4096, 857_600))),
    ("svdiff", {}, 130_560),
    *(("lidb", {"rank": r}, n) for r, n in ((1, 26_400), (16, 422_400), (32, 844_800))),
    ("lora_xs", {"rank": 16}, 45_056),
    ("ada_link", {"rank": 8}, 2 * 768 * 8),
    ("ia3", {}, 155_136),
]
PUBLISHED = [
    *(
        ("spectral_rotational", {"rank": r}, n)
        for r, n in ((2, 1_408), (8, 22_528), (24, 202_752), (32, 360_448), (40, 563_200))
    ),
    *(
        ("spectral_rotational", {"rank": r, "train_scale": True}, n)
        for r, n in ((2, 1_760), (8, 23_936), (24, 206_976), (32, 366_080), (40, 570_240))
    ),
    *(("oft", {"rank": r}, n) for r, n in ((64, 29_670), (32, 118_680), (16, 474_720), (8, 1_898_880))),
]


@pytest.mark.parametrize(("adapter", "options", "number"), TRAINED)
def test_the_numbers_that_are_trained(adapter: str, options: dict[str, Any], number: int):
    assert counts(adapter, **options)[0] == number


@pytest.mark.parametrize(("adapter", "options", "number"), PUBLISHED)
def test_the_numbers_that_the_papers_count(adapter: str, options: dict[str, Any], number: int):
    assert counts(adapter, **options)[1] == number


def test_seq_lora_and_hydra_follow_their_formulas():
    sites = find_sites(PARTS).values()
    outs, ins = (sum(site.weight.shape[side] for site in sites) for side in (0, 1))
    assert counts("seq_lora", rank=4)[0] == 8 * outs
    assert counts("hydra", rank=4)[0] == 4 * (outs + ins) + 8 * outs
    assert counts("dora", rank=4)[0] == 4 * (outs + ins) + outs
    assert counts("orthogonal", rank=4)[0] == 4 * outs
    assert counts("ada_lora", rank=4)[0] == 4 * (outs + ins + len(sites))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_on_the_meta_device_has_num_parameters(adapter: str):
    method = ADAPTERS[adapter]
    config = method.Config()
    for site in list(find_sites(PARTS, method.kinds(config)).values())[::40]:
        built = method(site.weight, config, SiteContext(name=site.name, role=site.role))
        numbers = sum(parameter.numel() for parameter in built.parameters())
        assert numbers == method.num_parameters(tuple(site.weight.shape), config, site.role)
        assert all(tensor.device == torch.device("meta") for tensor in built.state_dict().values())
