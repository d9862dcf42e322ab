import pytest
import torch

from concepts.errors import StudioError
from studio.adapters import ADAPTERS
from studio.adapters.cost import cost, fit_budget, num_parameters, shapes_of
from studio.adapters.lora import Lora
from studio.adapters.oft import Oft
from studio.adapters.spectral_rotational import SpectralRotational
from studio.layers.target_modules import Site
from studio.models.architectures import ARCHITECTURES, architecture_parts, architecture_sites

SITES = {"sd15": (128, 48), "sd21": (128, 92), "sdxl": (560, 176)}


@pytest.mark.parametrize("name", SITES)
def test_the_architectures_have_their_attention_sites(name: str):
    sites = architecture_sites(name).values()
    in_unet = sum(site.part == "unet" for site in sites)
    assert (in_unet, len(sites) - in_unet) == SITES[name]
    assert all(site.weight.is_meta for site in sites)


def test_unknown_architectures_are_refused():
    with pytest.raises(StudioError, match=f"'sd3'.*{', '.join(ARCHITECTURES)}"):
        architecture_parts("sd3")


def test_a_rotational_concept_of_stable_diffusion_fits_60_kilobytes():
    spent = cost("spectral_rotational", SpectralRotational.Config(rank=8), architecture_sites("sd15"))
    assert (spent.trained, spent.published, spent.exact_rank) == (9_856, 22_528, 8)
    assert spent.file_bytes <= 60_000


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_exact_rank_is_that_of_the_delta(sites: dict[str, Site], name: str):
    method = ADAPTERS[name]
    config = method.Config(**({"rank": 4} if "rank" in method.Config.__dataclass_fields__ else {}))
    if method.kinds(config) != ("attention",):
        pytest.skip("adapts other layers")
    spent = cost(name, config, sites)
    if spent.exact_rank is None:
        return
    for site in list(sites.values())[:4]:
        adapter = method(site.weight, config)
        for parameter in adapter.parameters():
            torch.nn.init.normal_(parameter)
        assert torch.linalg.matrix_rank(adapter.delta(site.weight), rtol=1e-4) <= spent.exact_rank
    assert spent.exact_rank <= (16 if name == "loha" else 8)  # loha's is r²


def test_a_budget_of_stable_diffusion():
    shapes = shapes_of(architecture_sites("sd15"))
    rotational = fit_budget("spectral_rotational", SpectralRotational.Config(), shapes, 20_000)
    assert rotational.rank == 11  # 11 · 10 · 176 = 19,360
    with pytest.raises(StudioError, match="Choose at least 273,024"):
        fit_budget("lora", Lora.Config(), shapes, 20_000)
    oft = fit_budget("oft", Oft.Config(), shapes, 20_000)
    assert num_parameters("oft", oft, shapes) == 13_770
