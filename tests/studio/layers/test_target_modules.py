import pytest
from torch import nn

from concepts.errors import StudioError
from studio.layers.target_modules import Site, find_sites
from studio.models.architectures import architecture_parts


@pytest.fixture(scope="module")
def stable_diffusion() -> dict[str, nn.Module]:
    """Stable Diffusion 1.5 without weights."""
    return architecture_parts("sd15")


def test_stable_diffusion_has_176_attention_sites(stable_diffusion: dict[str, nn.Module]):
    sites = find_sites(stable_diffusion)
    assert sum(site.part == "unet" for site in sites.values()) == 128
    assert sum(site.part == "text_encoder" for site in sites.values()) == 48
    assert "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q" in sites
    assert min(min(site.weight.shape) for site in sites.values()) == 320


def test_other_kinds_of_layers(stable_diffusion: dict[str, nn.Module]):
    text_encoders = find_sites(stable_diffusion, ("cross_attention_kv",))
    assert len(text_encoders) == 2 * 16
    assert all(site.weight.shape[1] == 768 and site.part == "unet" for site in text_encoders.values())
    assert len(find_sites(stable_diffusion, ("feed_forward",))) == 2 * 16 + 2 * 12
    convolutions = find_sites(stable_diffusion, ("convolution",))
    assert convolutions["unet.conv_in"].weight.shape == (320, 4 * 9)
    assert len(find_sites(stable_diffusion, ("attention", "cross_attention_kv"))) == 176
    assert len(find_sites(stable_diffusion, ("attention_kv",))) == 88


def test_convolutions_that_know_the_prompt(stable_diffusion: dict[str, nn.Module]):
    inner = find_sites(stable_diffusion, ("inner_convolution",))
    rising = find_sites(stable_diffusion, ("up_convolution",))
    attending = ("unet.up_blocks.1.", "unet.up_blocks.2.", "unet.up_blocks.3.")
    assert rising.keys() == {name for name in inner if name.startswith(attending)}
    # 9 residual blocks with a shortcut each, 2 upsamplings, and 2 projections around each of 9 transformers
    assert len(rising) == 9 * 3 + 2 + 9 * 2


def test_norms_biases_and_branches(stable_diffusion: dict[str, nn.Module]):
    norms = find_sites(stable_diffusion, ("norm",))
    assert all(site.role == "norm" and site.weight.shape[1] == 1 for site in norms.values())
    assert "text_encoder.final_layer_norm" in norms
    biased = find_sites(stable_diffusion, ("bias",))
    assert all(site.bias is not None for site in biased.values())
    assert norms.keys() <= biased.keys()
    ends = [site.name for site in biased.values() if site.role == "branch_end"]
    assert len(ends) == 16 * 3 + 12 * 2
    assert "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.2" in ends


@pytest.mark.parametrize(
    ("kind", "name"), [("vocabulary", "embeddings.token_embedding"), ("text_output", "final_layer_norm")]
)
def test_text_embeddings_are_an_identity(stable_diffusion: dict[str, nn.Module], kind: str, name: str):
    (site,) = find_sites(stable_diffusion, (kind,)).values()
    assert site.name == f"text_encoder.{name}"
    assert site.role == "output"
    assert site.weight.shape == (768, 768)
    assert site.bias is None


def test_a_site_views_the_layers_own_weight(sites: dict[str, Site], unet: nn.Module):
    layers = dict(unet.named_modules(prefix="unet"))
    assert all(site.module is layers[name] for name, site in sites.items() if site.part == "unet")
    for site in sites.values():
        assert site.weight.data_ptr() == site.module.weight.data_ptr()
        assert getattr(site.parent, site.attribute) is site.module


def test_unknown_or_missing_layers_are_refused(unet: nn.Module):
    with pytest.raises(StudioError, match=r"no target modules 'atention'.*attention, attention_kv, cross_attention_kv"):
        find_sites({"unet": unet}, ("atention",))
    with pytest.raises(StudioError, match=r"head has no cross_attention_kv layers"):
        find_sites({"head": nn.Linear(2, 2)}, ("cross_attention_kv",))
