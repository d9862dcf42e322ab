import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from concepts.errors import StudioError
from studio.adapters.concept_file import TrainedConcept, build_adapters, from_bytes, to_bytes, trained_states
from studio.adapters.registry import create_adapters
from studio.adapters.spectral_additive import SpectralAdditive
from studio.layers.svd_basis import Decomposition
from studio.layers.target_modules import Site

CONFIG = {"rank": 4, "first_column": 8, "train_scale": True}


@pytest.fixture
def decomposition(sites: dict[str, Site]) -> Decomposition:
    return Decomposition.of(sites)


@pytest.fixture
def concept(sites: dict[str, Site], decomposition: Decomposition) -> TrainedConcept:
    torch.manual_seed(0)
    config = SpectralAdditive.Config(**CONFIG)
    adapters = create_adapters("spectral_additive", config, sites, decomposition)
    for adapter in adapters.values():
        for parameter in adapter.parameters():
            torch.nn.init.normal_(parameter)
    return TrainedConcept(
        decomposition.fingerprint,
        "spectral_additive",
        CONFIG,
        trained_states(adapters),
        {"<rex>": {"text_encoder": torch.randn(2, 32)}, "<milo>": {"text_encoder": torch.randn(1, 32)}},
        {"class": "cat", "scores": {"image_alignment": 0.8}, "steps": 200},
    )


def same(one: dict[str, dict[str, torch.Tensor]], other: dict[str, dict[str, torch.Tensor]]) -> bool:
    return {a: sorted(state) for a, state in one.items()} == {a: sorted(state) for a, state in other.items()} and all(
        torch.equal(tensor, other[a][b]) for a, state in one.items() for b, tensor in state.items()
    )


def test_a_concept_comes_back_from_its_bytes(concept: TrainedConcept):
    loaded = from_bytes(to_bytes(concept), "rex")
    assert same(loaded.adapters, concept.adapters)
    assert same(loaded.tokens, concept.tokens)
    for name in ("base", "adapter", "config", "metadata"):
        assert getattr(loaded, name) == getattr(concept, name)


def test_the_same_concept_gives_the_same_bytes(concept: TrainedConcept):
    backwards = replace(
        concept,
        adapters=dict(reversed(concept.adapters.items())),
        tokens=dict(reversed(concept.tokens.items())),
        metadata=dict(reversed(concept.metadata.items())),
    )
    assert to_bytes(backwards) == to_bytes(concept) == to_bytes(from_bytes(to_bytes(concept), "rex"))


def test_the_header_stays_small(concept: TrainedConcept):
    data = to_bytes(concept)
    numbers = sum(tensor.numel() for state in concept.adapters.values() for tensor in state.values())
    names = sum(len(site) for site in concept.adapters)
    assert len(data) < 4 * numbers + 2 * names + 2000
    assert len(to_bytes(concept, torch.bfloat16)) < len(data) - 1.9 * numbers


def test_a_file_in_half_precision_loads_as_float32(concept: TrainedConcept):
    state = from_bytes(to_bytes(concept, torch.float16), "rex").adapters[next(iter(concept.adapters))]
    expected = concept.adapters[next(iter(concept.adapters))]["change_u"]
    assert torch.equal(state["change_u"], expected.half().float())


def test_a_concept_without_adapters_or_tokens_round_trips(concept: TrainedConcept):
    bare = replace(concept, adapters={}, tokens={})
    assert from_bytes(to_bytes(bare), "rex") == bare


def test_what_is_no_concept_or_torn_is_refused(concept: TrainedConcept):
    data = to_bytes(concept)
    foreign = save({"weight": torch.zeros(2)}, {"format": "pt"})
    lacking = save({"weight": torch.zeros(2)}, {"concept_studio": json.dumps({"sites": ["a"]})})
    for bad in (b"", b"not a file", data[:-1], data[:100], data + b"x", foreign, lacking):
        with pytest.raises(StudioError, match=r"rex\.safetensors is damaged, or not the file of a concept"):
            from_bytes(bad, "rex.safetensors")


def test_a_concept_of_another_base_is_refused(
    concept: TrainedConcept, sites: dict[str, Site], decomposition: Decomposition
):
    with pytest.raises(StudioError, match=f"fingerprint is 0123abcd, .* this base {decomposition.fingerprint}"):
        build_adapters(replace(concept, base="0123abcd"), sites, decomposition)


def test_what_does_not_fit_the_base_is_refused(
    concept: TrainedConcept, sites: dict[str, Site], decomposition: Decomposition
):
    name = next(iter(sites))
    state = concept.adapters[name]
    for changed, message in (
        (replace(concept, adapters={"elsewhere": state}), "no layer elsewhere"),
        (replace(concept, adapters={name: {"change_u": torch.zeros(3, 4)}}), f"tensors do not fit the layer {name}"),
        (replace(concept, config={"rnk": 4}), "other options than spectral_additive: .*rnk"),
        (replace(concept, config={"rank": "4"}), "other options than spectral_additive: .*'4'"),
        (replace(concept, adapter="lorra"), "no adapter 'lorra'"),
    ):
        with pytest.raises(StudioError, match=message):
            build_adapters(changed, sites, decomposition)
