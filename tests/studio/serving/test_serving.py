from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.composition.merge import applied
from studio.layers.low_rank import LowRank
from studio.models.base_model import Base, generate_latents
from studio.models.regions.attention import in_regions
from studio.models.regions.layout import RegionLayout
from studio.models.regions.region import AutoRegion, MaskRegion, Region
from studio.models.sampling import denoise
from studio.models.sampling_settings import SamplingSettings
from studio.serving.region_shares import shares_in_context, shares_in_space
from studio.serving.routing import LoraFactors, RoutedConv2d, RoutedLinear, Shares, batched_lora_of
from studio.serving.serving import Request, Serving

QUICK = SamplingSettings(num_inference_steps=2, batch_size=4)
LEFT, RIGHT = Region("a <rex>", 0, 0, 1, 0.5), Region("a <tom>", 0, 0.5, 1, 1)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Float32, so that what should be equal is."""
    monkeypatch.setattr(Base, "autocast", lambda _: nullcontext())


@pytest.fixture
def three(base: Base, make_concept):
    """Of different methods and ranks; one adapts a few layers only."""
    tom = make_concept(base, "tom", "lora", 2, rank=3)
    few = make_concept(base, "few", "lora", 3, rank=2)
    few = replace(few, adapters={name: few.adapters[name] for name in list(few.adapters)[::3]})
    return {"rex": make_concept(base, "rex"), "tom": tom, "few": few}


def space(names: list[str], regions: dict[str, Region], aspect: float) -> Shares:
    return shares_in_space(names, list(regions), RegionLayout([*regions.values()], aspect))


def latents(serving: Serving, requests: list[Request], settings: SamplingSettings = QUICK) -> Tensor:
    generated: list = serving.generate(requests, settings, output="latent")
    return torch.stack(generated)


def part(seed: int, rank: int, bias: bool = False, inputs: int = 6) -> LoraFactors:
    generator = torch.Generator().manual_seed(seed)
    up, down = torch.randn(5, rank, generator=generator), torch.randn(rank, inputs, generator=generator)
    return LoraFactors(LowRank(up, down), torch.randn(5, generator=generator) if bias else None)


@pytest.mark.parametrize("guided", [1, 2])
def test_each_row_gets_its_own_products(guided: int):
    frozen = nn.Linear(6, 5)
    layer, x = RoutedLinear(frozen), torch.randn(3 * guided, 4, 6)
    one, two, three = part(0, 2), part(1, 3, bias=True), part(2, 1)
    rows = [[one, two], [], [three]]
    layer.route = batched_lora_of(rows, torch.float32)
    found = layer(x)
    for index in range(3 * guided):
        expected = frozen(x[index])
        for each in rows[index % 3]:
            expected = expected + x[index] @ each.low_rank.dense().T + (0 if each.bias is None else each.bias)
        torch.testing.assert_close(found[index], expected)


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
@pytest.mark.parametrize("guided", [1, 2])
def test_each_row_of_a_convolution_gets_its_own_products(guided: int, padding_mode):
    frozen = nn.Conv2d(2, 5, 3, stride=2, padding=1, padding_mode=padding_mode)
    layer, x = RoutedConv2d(frozen), torch.randn(3 * guided, 2, 8, 6)
    one, two, three = part(0, 2, inputs=18), part(1, 3, bias=True, inputs=18), part(2, 1, inputs=18)
    rows = [[one, two], [], [three]]
    layer.route = batched_lora_of(rows, torch.float32)
    found = layer(x)
    for index in range(3 * guided):
        expected = frozen(x[index : index + 1])
        for each in rows[index % 3]:
            dense = each.low_rank.dense().unflatten(1, (2, 3, 3))
            expected = expected + frozen._conv_forward(x[index : index + 1], dense, each.bias)
        torch.testing.assert_close(found[index : index + 1], expected)
    layer.route = batched_lora_of([[one, three]] * 3, torch.float32)
    dense = (one.low_rank.dense() + three.low_rank.dense()).unflatten(1, (2, 3, 3))
    torch.testing.assert_close(layer(x), frozen(x) + frozen._conv_forward(x, dense, None))


def test_a_convolution_is_left_alone_outside_a_concepts_box():
    frozen = nn.Conv2d(2, 5, 3, padding=1)
    layer, x = RoutedConv2d(frozen), torch.randn(2, 2, 4, 8)
    shares = space(["rex"], {"rex": Region("a", 0, 0, 1, 0.5)}, 2)
    layer.route = batched_lora_of([[part(0, 2, inputs=18)]], torch.float32, shares)
    changed = (layer(x) - frozen(x)).abs().amax((0, 1)) > 1e-6
    assert changed[:, :4].all()
    assert not changed[:, 4:].any()


def test_rows_of_the_same_parts_share_one_product():
    one, two = part(0, 2), part(1, 3, bias=True)
    layer, x = RoutedLinear(nn.Linear(6, 5)), torch.randn(8, 4, 6)
    layer.route = batched_lora_of([[one, two]] * 4, torch.float32)
    assert layer.route
    assert layer.route.down.shape == (1, 6, 5)
    dense = one.low_rank.dense() + two.low_rank.dense()
    assert two.bias is not None
    frozen = nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), frozen + x @ dense.T + two.bias)
    assert batched_lora_of([[], []], torch.float32) is None


def test_outside_its_box_a_concept_leaves_no_trace():
    one, two = part(0, 2), part(1, 3)
    layer, x = RoutedLinear(nn.Linear(6, 5)), torch.randn(2, 16, 6)
    shares = space(["rex", "tom"], {"rex": Region("a", 0, 0, 0.5, 0.5)}, 1)
    layer.route = batched_lora_of([[one, two]], torch.float32, shares)
    found = layer(x).unflatten(1, (4, 4))
    layer.route = batched_lora_of([[two]], torch.float32)
    without = layer(x).unflatten(1, (4, 4))
    layer.route = batched_lora_of([[one, two]], torch.float32)
    everywhere = layer(x).unflatten(1, (4, 4))
    torch.testing.assert_close(found[:, :2, :2], everywhere[:, :2, :2])
    torch.testing.assert_close(found[:, 2:], without[:, 2:])
    torch.testing.assert_close(found[:, :, 2:], without[:, :, 2:])
    layer.route = batched_lora_of([[one]], torch.float32, space(["rex"], {"rex": Region("a", 0, 0, 0.5, 0.5)}, 1))
    outside = layer(x).unflatten(1, (4, 4))[:, 2:]
    assert torch.equal(outside, nn.functional.linear(x, layer.weight, layer.bias).unflatten(1, (4, 4))[:, 2:])


def test_a_concept_reads_the_tokens_of_its_own_prompt():
    regions = {"rex": LEFT, "tom": RIGHT}
    shares = shares_in_context(["tom", "rex", "few"], list(regions), RegionLayout([LEFT, RIGHT]))(9)
    assert shares[0].T.tolist() == [[0] * 6 + [1] * 3, [0] * 3 + [1] * 3 + [0] * 3, [1] * 3 + [0] * 6]


@pytest.mark.parametrize(("adapter", "strength"), [("spectral_additive", 0.7), ("oft", 1.0), ("hydra", 0.7)])
def test_a_served_concept_generates_what_the_merged_one_does(
    base: Base, make_concept, state_of, adapter: str, strength: float
):
    concepts = {"rex": make_concept(base, "rex", adapter)}
    before = state_of(base)
    with Serving(base, concepts) as serving:
        found = latents(serving, [Request("a <rex>", seed, {"rex": strength}) for seed in range(2)])
        again = latents(serving, [Request("a <rex>", 1, {"rex": strength})])
    assert state_of(base) == before
    with applied(base, concepts, None, {"rex": strength}):
        merged = generate_latents(base, ["a <rex>"] * 2, range(2), QUICK)
    torch.testing.assert_close(found, merged, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(again[0], found[1], rtol=1e-4, atol=1e-4)


def test_the_pictures_of_a_batch_use_different_concepts(base: Base, three, state_of):
    requests = [
        Request("a <rex>", 0, {"rex": 1.0}),
        Request("a <tom>", 1, {"tom": 0.5}),
        Request("a cat", 2),
        Request("a <few> and a <rex>", 3, {"few": 1.0, "rex": 1.5}),
        Request("a <tom>", 4, {"tom": 1.0}),
    ]
    before = state_of(base)
    with Serving(base, three) as serving:
        together = latents(serving, requests)
        alone = torch.cat([latents(serving, [request]) for request in requests])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert state_of(base) == before
    plain = generate_latents(base, ["a cat"], [2], QUICK)
    torch.testing.assert_close(together[2], plain[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[0], generate_latents(base, ["a cat"], [0], QUICK)[0], atol=1e-2)


def test_regions_of_all_the_picture_are_no_regions(base: Base, three):
    whole = Region("a <rex>", 0, 0, 1, 1)
    with Serving(base, three) as serving:
        inside = latents(serving, [Request("a beach", 0, {"rex": 0.8}, {"rex": whole})])
        plain = latents(serving, [Request("a <rex>", 0, {"rex": 0.8})])
    # Without guidance's other half: the empty prompt is encoded with the concept only where it has no region.
    assert not torch.equal(inside, plain)
    unguided = QUICK.model_copy(update={"guidance_scale": 1.0})
    with Serving(base, three) as serving:
        inside = latents(serving, [Request("a beach", 0, {"rex": 0.8}, {"rex": whole})], unguided)
        plain = latents(serving, [Request("a <rex>", 0, {"rex": 0.8})], unguided)
    torch.testing.assert_close(inside, plain, rtol=1e-3, atol=1e-3)


def test_concepts_in_regions_share_a_batch_and_keep_their_strengths(base: Base, three, state_of):
    regions = {"rex": LEFT, "tom": RIGHT}
    requests = [
        Request("a beach", 0, {"rex": 1.0, "tom": 1.0}, regions),
        Request("a beach with a <few>", 1, {"rex": 0.5, "tom": 1.0, "few": 1.0}, regions),
        Request("snow", 2, {"rex": 0.5, "tom": 2.0}, regions),
        Request("a <few>", 3, {"few": 1.0}),
    ]
    before = state_of(base)
    with Serving(base, three) as serving:
        together = latents(serving, requests)
        for index, request in enumerate(requests):
            torch.testing.assert_close(latents(serving, [request])[0], together[index], rtol=1e-4, atol=1e-4)
        zero = latents(serving, [Request("snow", 2, {"rex": 0.0, "tom": 0.0}, regions)])
    assert state_of(base) == before
    assert not torch.allclose(zero[0], together[2], atol=1e-2)


def test_at_strength_zero_regions_are_those_of_the_base(base: Base, three):
    with Serving(base, three) as serving:
        found = latents(serving, [Request("snow", 2, {"rex": 0.0, "tom": 0.0}, {"rex": LEFT, "tom": RIGHT})])
        with in_regions(base.pipeline.unet, RegionLayout([LEFT, RIGHT])), torch.inference_mode():
            wanted = base.encode(["snow", LEFT.prompt, RIGHT.prompt]).concat(3)
            unwanted = base.encode([""]).lengthened(wanted.context.shape[1] // base.encode([""]).context.shape[1])
            expected = denoise(base, wanted, unwanted, [2], QUICK, "latent", lambda: None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_switching_changes_no_layer(base: Base, three):
    with Serving(base, three) as serving:
        first = latents(serving, [Request("a <rex>", 0, {"rex": 1.0})])
        latents(serving, [Request("a <tom>", 0, {"tom": 1.0})])
        assert torch.equal(first, latents(serving, [Request("a <rex>", 0, {"rex": 1.0})]))


def test_concepts_come_and_go(base: Base, three, make_concept, state_of):
    before = state_of(base)
    serving = Serving(base, {"rex": three["rex"]})
    with pytest.raises(StudioError, match="tom is not loaded; loaded are rex"):
        serving.generate([Request("a <tom>", 0, {"tom": 1.0})], QUICK)
    serving.load("tom", three["tom"])
    first = latents(serving, [Request("a <tom>", 0, {"tom": 1.0})])
    serving.load("tom", make_concept(base, "tom", "lora", seed=9))
    assert not torch.equal(first, latents(serving, [Request("a <tom>", 0, {"tom": 1.0})]))
    serving.unload("rex")
    with pytest.raises(StudioError, match="rex is not loaded; loaded are"):
        serving.generate([Request("a <rex>", 0, {"rex": 1.0})], QUICK)
    serving.close()
    assert state_of(base) == before


def test_what_cannot_be_served_is_refused_and_leaves_no_trace(base: Base, three, state_of):
    before = state_of(base)
    foreign = replace(three["tom"], base="0123456789abcdef")
    same_token = replace(three["tom"], tokens=three["rex"].tokens)
    for concept, said in ((foreign, "trained on another base"), (same_token, "already has the token <rex>")):
        with pytest.raises(StudioError, match=said):
            Serving(base, {"rex": three["rex"], "tom": concept})
        assert state_of(base) == before
    norms = replace(three["tom"], adapter="layer_norm", config={}, adapters={
        site: {"change_bias": torch.zeros(32), "change_weight": torch.zeros(32)}
        for site in ("text_encoder.final_layer_norm",)
    })  # fmt: skip
    with pytest.raises(
        StudioError, match=r"tom cannot be used unmerged, since it changes text_encoder\.final_layer_norm"
    ):
        Serving(base, {"tom": norms})
    assert state_of(base) == before


@pytest.mark.parametrize("position", ["input", "output", "latents", "input_and_latents"])
def test_several_links_are_served_in_one_batch(base: Base, make_concept, position):
    concepts = {
        name: make_concept(base, name, "ada_link", seed, position=position) for name, seed in (("a", 1), ("b", 2))
    }
    requests = [Request("a <a>", 0, {"a": 1.0}), Request("a <b>", 1, {"b": 0.5}), Request("a cat", 2)]
    with Serving(base, concepts) as serving:
        served = latents(serving, requests)
    alone = []
    for request in requests:
        own = {name: concepts[name] for name in request.concepts}
        with applied(base, own, strengths=request.concepts):
            alone.append(generate_latents(base, [request.prompt], [request.seed], QUICK)[0])
    torch.testing.assert_close(served, torch.stack(alone), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(served[0], served[2], atol=1e-2)


@pytest.mark.parametrize("syntax", ["plain", "a1111"])
def test_long_prompts_of_a_batch_have_their_own_concepts(base: Base, three, syntax):
    room = base.pipeline.tokenizer.model_max_length - 2
    long = " ".join(["dog"] * (2 * room))
    settings = QUICK.model_copy(update={"prompt_syntax": syntax})
    requests = [
        Request(f"{long} and <rex>", 0, {"rex": 1.0}), Request(f"a (red:1.3) <tom> {long}", 1, {"tom": 1.0}),
    ]  # fmt: skip
    with Serving(base, three) as serving:
        together = latents(serving, requests, settings)
        alone = [latents(serving, [request], settings)[0] for request in requests]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-3, atol=1e-3)


def test_found_regions_are_each_pictures_own_and_leave_the_base_as_it_was(base: Base, three, state_of):
    settings = SamplingSettings(num_inference_steps=4, batch_size=4)
    auto = {name: AutoRegion(f"a <{name}>", (f"<{name}>",)) for name in ("rex", "tom")}
    requests = [Request("a <rex> and a <tom>", seed, {"rex": 1.0, "tom": 1.0}, auto) for seed in range(3)]
    before, masks = state_of(base), dict[int, Tensor]()
    with Serving(base, three) as serving:
        together: Any = serving.generate(
            requests, settings, on_step=lambda: None, output="latent", on_regions=masks.__setitem__
        )
        alone = torch.cat([latents(serving, [request], settings) for request in requests])
        everywhere = latents(serving, [replace(request, regions={}) for request in requests], settings)
    assert state_of(base) == before
    torch.testing.assert_close(torch.stack([*together]), alone, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(alone, everywhere, atol=1e-2)
    assert list(masks) == [0, 1, 2]
    for own in masks.values():
        assert own.shape == (2, base.side, base.side)
        assert (own.flatten(1).amax(1) > 0.5).all()
        assert own.sum(0).max() <= 1 + 1e-5


def test_a_box_or_mask_overrides_what_is_found(base: Base, three):
    left = torch.zeros(4, 4)
    left[:, :2] = 1
    regions = {"rex": MaskRegion("a <rex>", left), "tom": AutoRegion("a <tom>", ("<tom>",))}
    masks = dict[int, Tensor]()
    with Serving(base, three) as serving:
        requests = [Request("a <rex> and a <tom>", seed, {"rex": 1.0, "tom": 1.0}, regions) for seed in range(8)]
        serving.generate(requests, QUICK, on_regions=masks.__setitem__)
    rex, tom = (torch.stack(own) for own in zip(*masks.values(), strict=True))
    assert rex[..., : base.side // 4].min() == 1
    assert tom[..., : base.side // 4].max() == 0
    assert tom.max() > 0.5


def test_a_region_is_found_only_for_a_concept_that_the_prompt_names(base: Base, three):
    request = Request("a beach", 0, {"rex": 1.0}, {"rex": AutoRegion("a <rex>", ("<rex>",))})
    with Serving(base, three) as serving, pytest.raises(StudioError, match="does not name <rex>"):
        serving.generate([request], QUICK)
