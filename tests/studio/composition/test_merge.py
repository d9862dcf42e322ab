from dataclasses import replace

import pytest
import torch

from concepts.errors import StudioError
from studio.adapters.concept_file import from_bytes, to_bytes
from studio.composition import MERGES, merge
from studio.composition.merge import MergeCache, applied, merged_concept, merged_deltas
from studio.composition.merge_config import MergeConfig, default_method
from studio.layers.low_rank import LowRank
from studio.models.base_model import Base, generate, generate_latents
from studio.models.sampling_settings import SamplingSettings

QUICK = SamplingSettings(num_inference_steps=2)


@pytest.fixture
def pair(base: Base, make_concept):
    """Two spectral concepts in columns of their own."""
    return {"rex": make_concept(base, "rex"), "milo": make_concept(base, "milo", seed=2, first_column=4)}


def test_the_joint_form_is_the_default_where_all_are_spectral(base: Base, make_concept, pair):
    assert default_method(pair) == "spectral"
    assert default_method({**pair, "tom": make_concept(base, "tom", "lora")}) == "fedavg"


def test_strengths_that_are_not_given_are_one(base: Base, pair):
    given = merged_deltas(base, pair, strengths={"rex": 1.0, "milo": 1.0})
    left_out = merged_deltas(base, pair)
    halved = merged_deltas(base, pair, strengths={"milo": 0.5})
    assert given.keys() == base.sites.keys()
    assert all(torch.equal(given[name], left_out[name]) for name in given)
    assert not any(torch.equal(halved[name], left_out[name]) for name in given)


def test_an_unknown_method_is_refused_with_the_names_that_there_are(base: Base, pair):
    with pytest.raises(StudioError, match=r"no merge method 'magic'. Choose from spectral, fedavg"):
        merged_deltas(base, pair, "magic")


def test_while_applied_the_concepts_are_in_the_base(base: Base, pair, state_of):
    before = state_of(base)
    weights = {name: site.weight.clone() for name, site in base.sites.items()}
    deltas = merged_deltas(base, pair)
    with applied(base, pair) as ready:
        assert ready is base
        for name, site in base.sites.items():
            torch.testing.assert_close(site.weight, weights[name] + deltas[name])
            assert not torch.equal(site.weight, weights[name])
        assert base.pipeline.tokenizer.tokenize("a <rex>, <milo>")[1:] == ["<rex>", ",</w>", "<milo>"]
        generate(base, "a <rex> and a <milo>", [0], QUICK)
    assert state_of(base) == before


def test_the_base_is_as_it_was_also_when_generating_fails(base: Base, pair, state_of):
    def stop() -> None:
        raise RuntimeError("stop")

    before = state_of(base)
    with pytest.raises(RuntimeError, match="stop"), applied(base, pair):
        generate(base, "a <rex>", [0], QUICK, on_step=stop)
    assert state_of(base) == before


def test_the_base_is_as_it_was_when_a_concept_does_not_fit(base: Base, pair, make_concept, state_of):
    before = state_of(base)
    same_token = replace(pair["milo"], tokens=pair["rex"].tokens)
    too_wide = replace(pair["milo"], tokens={"<milo>": {"text_encoder": torch.zeros(1, 99)}})
    foreign = replace(pair["milo"], base="0123456789abcdef")
    for other, message in (
        (same_token, "already has the token <rex>"),
        (too_wide, "99"),
        (foreign, "trained on another base"),
    ):
        with pytest.raises(StudioError, match=message), applied(base, {"rex": pair["rex"], "milo": other}):
            pytest.fail("it must not open")
        assert state_of(base) == before


def test_without_concepts_nothing_changes(base: Base, state_of):
    before = state_of(base)
    with applied(base, {}):
        assert state_of(base) == before


@pytest.mark.parametrize("adapter", ["spectral_additive", "lora"])
def test_strength_zero_gives_the_bases_picture_and_strength_one_another(base: Base, make_concept, adapter: str):
    concept = {"rex": make_concept(base, "rex", adapter)}

    def latents(strength: float | None) -> torch.Tensor:
        if strength is None:
            return generate_latents(base, ["a cat"], [0], QUICK)
        with applied(base, concept, strengths={"rex": strength}):
            return generate_latents(base, ["a cat"], [0], QUICK)

    assert torch.equal(latents(0.0), latents(None))
    half, whole = (latents(strength) - latents(None) for strength in (0.5, 1.0))
    assert half.abs().max() > 0
    assert whole.norm() > half.norm()


def test_the_merged_file_is_the_merge_exactly(base: Base, pair):
    strengths = {"rex": 0.8, "milo": 1.2}
    merged = from_bytes(to_bytes(merged_concept(base, pair, MergeConfig(strengths=strengths))), "merged")
    deltas = merged_deltas(base, pair, None, strengths)
    assert merged.config["rank"] == 2 * (4 + 4)
    assert merged.metadata == {"merged": ["rex", "milo"], "method": "spectral", "strengths": strengths}
    for name, state in merged.adapters.items():
        dense = LowRank(state["up"], state["down"]).dense()
        torch.testing.assert_close(dense, deltas[name], rtol=1e-4, atol=1e-5 * deltas[name].abs().max().item())
    together = {"both": merged}
    with applied(base, together):
        from_file = generate_latents(base, ["a <rex> and a <milo>"], [0], QUICK)
    with applied(base, pair, strengths=strengths):
        from_both = generate_latents(base, ["a <rex> and a <milo>"], [0], QUICK)
    torch.testing.assert_close(from_file, from_both, rtol=0.05, atol=0.05)


def test_a_merge_of_any_adapters_has_the_rank_of_their_sum(base: Base, pair, make_concept):
    lora = make_concept(base, "tom", "lora", rank=3)
    merged = merged_concept(base, {"rex": pair["rex"], "tom": lora})
    assert merged.config["rank"] == 2 * 4 + 3
    assert merged.metadata["method"] == "fedavg"
    assert set(merged.tokens) == {"<rex>", "<tom>"}


def test_a_merge_of_many_stays_within_what_the_base_has(base: Base, make_concept):
    many = {f"c{i}": make_concept(base, f"c{i}", seed=i, first_column=4 * i) for i in range(5)}
    merged = merged_concept(base, many)
    assert merged.config["rank"] == 32 == base.decomposition.capacity
    deltas = merged_deltas(base, many)  # 5 x 8 is above 32, but no layer here has more than 32 columns
    for name, state in merged.adapters.items():
        torch.testing.assert_close(LowRank(state["up"], state["down"]).dense(), deltas[name], rtol=1e-3, atol=1e-4)


def test_two_concepts_of_one_token_are_not_merged(base: Base, pair, make_concept):
    with pytest.raises(StudioError, match="Merge each concept once"):
        merged_concept(base, {"rex": pair["rex"], "REX": make_concept(base, "rex", seed=3, first_column=8)})


def test_a_merged_model_is_kept_for_the_next_request(base: Base, pair, make_concept, state_of, monkeypatch):
    merges = []
    real = merge.merged_changes
    monkeypatch.setattr(merge, "merged_changes", lambda *given: merges.append(given[2]) or real(*given))
    cache, before = MergeCache(base, 2), state_of(base)
    weight = next(iter(base.sites.values())).module

    def generated(concepts, plan: MergeConfig) -> torch.Tensor:
        with cache.applied(concepts, plan):
            return weight.weight.clone()

    first = generated(pair, MergeConfig())
    assert torch.equal(first, generated(dict(reversed(pair.items())), MergeConfig("spectral", {"rex": 1.0})))
    assert len(merges) == 1
    assert not torch.equal(first, generated(pair, MergeConfig(strengths={"rex": 0.5})))
    assert not torch.equal(first, generated(pair, MergeConfig(averaged=True)))
    assert len(merges) == 3
    generated(pair, MergeConfig())
    assert len(merges) == 4, "only two are kept"
    generated({**pair, "rex": make_concept(base, "rex", seed=9)}, MergeConfig())
    assert len(merges) == 5, "another concept of the same name is another"
    assert generated({}, MergeConfig()).equal(weight.weight)
    assert state_of(base) == before


@pytest.mark.parametrize("method", sorted({*MERGES} - {"spectral", "orthogonal"}))
def test_every_method_merges_a_whole_model_with_tokens_and_text_encoder(base: Base, pair, make_concept, method: str):
    mixed = {"rex": pair["rex"], "tom": make_concept(base, "tom", "lora"), "ann": make_concept(base, "ann", "oft")}
    weights = {name: site.weight.clone() for name, site in base.sites.items()}
    with applied(base, mixed, method):
        changed = [name for name, site in base.sites.items() if not torch.equal(site.weight, weights[name])]
        assert len(changed) == len(base.sites)
        assert any(name.startswith("text_encoder") for name in changed)
        assert base.pipeline.tokenizer.tokenize("<rex><tom><ann>") == ["<rex>", "<tom>", "<ann>"]
