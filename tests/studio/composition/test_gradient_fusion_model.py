from dataclasses import replace

import pytest
import torch

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.injection import injected
from studio.composition import MergeSite, gradient_fusion_model
from studio.composition.gradient_fusion_layer import gradient_fusion_delta
from studio.composition.gradient_fusion_model import fused_deltas, preservation_prompts, prompts_of
from studio.composition.gram_matrices import gram, recorded
from studio.composition.loaded_concept import load_concept
from studio.composition.merge import applied, merged_deltas
from studio.composition.merge_config import MergeConfig
from studio.composition.patching import changed, with_tokens
from studio.layers.target_modules import Site, find_sites
from studio.models.base_model import Base, generate_latents
from studio.models.sampling_settings import SamplingSettings

QUICK = SamplingSettings(num_inference_steps=2, batch_size=4)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(gradient_fusion_model, "SAMPLING", QUICK)


@pytest.fixture
def pair(base: Base, make_concept):
    return {"rex": make_concept(base, "rex"), "tom": make_concept(base, "tom", "lora", seed=2)}


def test_layer_inputs_are_recorded_as_gram_matrices(unet):
    sites = find_sites({"unet": unet}, ("convolution", "attention"))
    names = ["unet.conv_in", next(name for name in sites if name.endswith("attn2.to_k"))]
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    context = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))
    with recorded({name: sites[name] for name in names}) as grams:
        for _ in range(2):
            unet(latents, 5, context)
    unet(latents, 5, context)  # no longer watched
    rows = context.flatten(0, 1)
    torch.testing.assert_close(grams[names[1]], 2 * rows.T @ rows)
    patches = torch.nn.functional.unfold(latents, 3, padding=1)
    torch.testing.assert_close(grams[names[0]], 2 * torch.einsum("nil,njl->ij", patches, patches), rtol=1e-4, atol=1e-3)


def test_layers_with_the_same_input_share_the_gram_matrix(unet):
    sites = find_sites({"unet": unet})
    block = [name for name in sites if "mid_block" in name and "attn1.to_" in name][:3]
    with recorded({name: sites[name] for name in block}) as grams:
        unet(torch.randn(1, 4, 8, 8), 5, torch.randn(1, 7, 32))
    query, key, value = (grams[name] for name in block)
    assert query is key is value


def test_a_gram_matrix_is_float32_also_under_autocast():
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = gram(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, x.T @ x)


def test_norms_have_no_gram_matrix(unet):
    norms = find_sites({"unet": unet}, ("norm",))
    with (
        pytest.raises(StudioError, match=r"gradient_fusion cannot merge .* Merge these concepts with fedavg"),
        recorded(norms),
    ):
        pytest.fail("it must not open")
    assert not any(module._forward_pre_hooks for module in unet.modules())


def adapted_sites(base: Base, adapters: dict[str, dict[str, Adapter]]) -> dict[str, Site]:
    return {name: site for name, site in base.sites.items() if any(name in own for own in adapters.values())}


def by_definition(base: Base, concepts, adapters: dict[str, dict[str, Adapter]], sites: dict[str, Site]):
    """The merged deltas of a text-encoder layer, a key of cross-attention and a query, from kept activations."""
    kept: dict[str, list[torch.Tensor]] = {}

    def keep(name: str):
        layer = getattr(sites[name].parent, sites[name].attribute)
        return layer.register_forward_pre_hook(
            lambda _, x: kept.setdefault(name, []).append(x[0].float().flatten(0, -2))
        )

    def merged(name: str, xs: list[torch.Tensor], still: torch.Tensor) -> torch.Tensor:
        own = [adapters[concept][name].delta(sites[name].weight) for concept in concepts]
        grams = [(x.T @ x).double() for x in xs]
        total = torch.stack([*grams, (still.T @ still).double()]).sum(0)
        rho = 1e-4 * total.diagonal().mean()
        target = torch.stack([delta.double() @ g for delta, g in zip(own, grams, strict=True)]).sum(0)
        return torch.linalg.solve(total + rho * torch.eye(len(total)), target.T).T.float()

    text = [name for name in sites if name.startswith("text_encoder")]
    query = next(name for name in sites if name.endswith("attn1.to_q"))
    seen: dict[str, list[torch.Tensor]] = {text[0]: [], query: []}
    for concept in concepts.values():
        prompts = prompts_of(concept)
        with injected(sites, adapters[concept.metadata["name"]]):
            hooks = [keep(text[0]), keep(query)]
            base.encode_prompts(prompts)
            hooks[0].remove()
            generate_latents(base, prompts, range(len(prompts)), QUICK)
            hooks[1].remove()
        for name in seen:
            seen[name].append(torch.cat(kept.pop(name)))
    hooks = [keep(text[0])]
    base.encode_prompts(still := preservation_prompts(concepts.values()))
    hooks[0].remove()
    hooks = [keep(query)]
    generate_latents(base, still, range(len(still)), QUICK)
    hooks[0].remove()
    return {name: merged(name, xs, torch.cat(kept.pop(name))) for name, xs in seen.items()}


def test_a_model_is_fused_by_its_definition(base: Base, pair, state_of):
    adapters = {name: dict(load_concept(base, concept).modules) for name, concept in pair.items()}
    sites = adapted_sites(base, adapters)
    before = state_of(base)
    with with_tokens(base, pair), torch.no_grad():
        expected = by_definition(base, pair, adapters, sites)
        found = fused_deltas(base, pair, sites, adapters, dict.fromkeys(pair, 1.0), preserving=True)
    assert state_of(base) == before
    assert found.keys() == sites.keys()
    for name, delta in expected.items():
        torch.testing.assert_close(found[name], delta, rtol=0.02, atol=0.02 * delta.abs().max().item())


@pytest.mark.parametrize("preserving", [True, False])
def test_keys_are_fused_on_outputs_of_the_merged_text_encoder(base: Base, pair, preserving: bool):
    adapters = {name: dict(load_concept(base, concept).modules) for name, concept in pair.items()}
    sites = adapted_sites(base, adapters)
    key = next(iter(base.sites_of(("cross_attention_kv",))))
    with with_tokens(base, pair), torch.no_grad():
        found = fused_deltas(base, pair, sites, adapters, dict.fromkeys(pair, 1.0), preserving=preserving)
        text = {name: site for name, site in sites.items() if site.part == "text_encoder"}
        grams = []
        with changed(text, {name: found[name] for name in text}):
            for name, concept in pair.items():
                prompts = prompts_of(concept)
                ids, contexts = base.token_ids(prompts), base.encode_prompts(prompts)
                token = base.pipeline.tokenizer.convert_tokens_to_ids(f"<{name}>")
                chosen = (ids == token) | (ids == base.pipeline.tokenizer.eos_token_id)
                assert (ids == token).any(1).all()
                grams.append(contexts[chosen].T @ contexts[chosen])
            unnamed = gram(base.encode_prompts(preservation_prompts(pair.values()))) if preserving else None

    own = [adapters[name][key] for name in pair]
    expected = gradient_fusion_delta(MergeSite(sites[key].weight, own, [1.0, 1.0], grams, preserved=unnamed))
    torch.testing.assert_close(found[key], expected, rtol=1e-3, atol=1e-4)


def test_concepts_are_generated_by_gradient_fusion(base: Base, pair, state_of):
    before = state_of(base)
    with applied(base, pair, "gradient_fusion", {"rex": 0.5}):
        fused = generate_latents(base, ["a <rex> and a <tom>"], [0], QUICK)
    assert state_of(base) == before
    with applied(base, pair, "fedavg", {"rex": 0.5}):
        summed = generate_latents(base, ["a <rex> and a <tom>"], [0], QUICK)
    assert fused.isfinite().all()
    assert not torch.allclose(fused, summed, atol=1e-3)


def test_the_two_methods_differ_in_what_they_preserve(base: Base, pair):
    published, preserving = (
        merged_deltas(base, pair, name) for name in ("gradient_fusion", "gradient_fusion_preserving")
    )
    assert published.keys() == preserving.keys()
    assert not any(torch.allclose(published[name], preserving[name], atol=1e-4) for name in published)


def test_one_concept_is_left_whole(base: Base, pair):
    alone = {"rex": pair["rex"]}
    for name, delta in merged_deltas(base, alone, "gradient_fusion").items():
        assert torch.equal(delta, merged_deltas(base, alone, "fedavg")[name])


def test_sites_that_only_one_concept_adapts_are_left_whole(base: Base, pair):
    some = dict(list(pair["tom"].adapters.items())[:3])
    few = {"rex": pair["rex"], "tom": replace(pair["tom"], adapters=some)}
    found, own = merged_deltas(base, few, "gradient_fusion"), merged_deltas(base, {"rex": pair["rex"]}, "fedavg")
    assert all(torch.equal(found[name], own[name]) == (name not in some) for name in found)


def test_strengths_can_be_shared_out(base: Base, pair):
    plan = MergeConfig("fedavg", {"rex": 0.5}, averaged=True)
    assert plan.strengths_for(pair) == {"rex": 0.25, "tom": 0.5}
    averaged = merged_deltas(base, pair, "fedavg", {"rex": 0.5}, averaged=True)
    halves = merged_deltas(base, pair, "fedavg", {"rex": 0.25, "tom": 0.5})
    assert all(torch.equal(averaged[name], halves[name]) for name in averaged)


def test_what_names_no_concept_is_left_alone(base: Base, pair):
    text = {name: site for name, site in base.sites.items() if site.part == "text_encoder"}
    adapters = {name: dict(load_concept(base, concept).modules) for name, concept in pair.items()}
    with with_tokens(base, pair), torch.no_grad():
        sites, strengths = adapted_sites(base, adapters), dict.fromkeys(pair, 1.0)
        deltas = fused_deltas(base, pair, sites, adapters, strengths, preserving=True)
        summed = merged_deltas(base, pair, "fedavg")
        prompts = preservation_prompts(pair.values())
        before = base.encode_prompts(prompts)
        moved = []
        for change in (deltas, summed):
            with changed(text, {name: change[name] for name in text}):
                moved.append((base.encode_prompts(prompts) - before).norm())
    assert moved[0] < 0.5 * moved[1]


def test_preservation_prompts_have_the_class_words(pair):
    prompts = preservation_prompts(
        [replace(pair["rex"], metadata={"class_word": word}) for word in ("dog", "vase", "dog")]
    )
    assert prompts[0] == ""
    assert {"dog", "vase", "a photo of a vase"} < set(prompts)
    assert len(prompts) == len(set(prompts))
