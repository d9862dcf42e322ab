"""Tokens by layer: every attention block of the UNet reads vectors of its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from concepts.errors import StudioError
from studio.adapters.concept_file import TrainedConcept, from_bytes, to_bytes
from studio.composition.merge import applied, merged_concept, merged_deltas
from studio.formats.exporting import export
from studio.formats.textual_inversion import read_token
from studio.models.base_model import Base, generate, load_base
from studio.models.layerwise_context import attention_blocks, layer_of
from studio.models.regions.region import Region
from studio.models.sampling_settings import SamplingSettings
from studio.models.token_embeddings import load_tokens, remove_tokens
from studio.serving.serving import Request, Serving

SETTINGS = SamplingSettings(num_inference_steps=2, negative_prompt="a dog")


@pytest.fixture
def concept(base: Base, make_concept: Callable[..., TrainedConcept]) -> TrainedConcept:
    """A concept whose token has two vectors, others for each of the four blocks."""
    vectors = torch.randn(4, 2, 32, generator=torch.Generator().manual_seed(3))
    return replace(make_concept(base, "rex"), tokens={"<rex>": {"text_encoder": vectors}})


def vectors_of(concept: TrainedConcept) -> Tensor:
    return concept.tokens["<rex>"]["text_encoder"]


def with_vectors(concept: TrainedConcept, vectors: Tensor) -> TrainedConcept:
    return replace(concept, tokens={"<rex>": {"text_encoder": vectors}})


def pairs_of_same(concept: TrainedConcept) -> tuple[TrainedConcept, TrainedConcept]:
    """The concept with the same vectors for every layer, and with those as a plain token."""
    first = vectors_of(concept)[0]
    return with_vectors(concept, first.repeat(4, 1, 1)), with_vectors(concept, first)


def what_is_read(base: Base, context: Tensor) -> list[Tensor]:
    """The contexts that the UNet's blocks get to see."""
    seen: list[Tensor] = []
    hooks = [
        base.pipeline.unet.get_submodule(name)
        .transformer_blocks[0]
        .attn2.to_k.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for name in base.attention_blocks
    ]
    latents = torch.randn(len(context), 4, 8, 8, generator=torch.Generator().manual_seed(0))
    base.pipeline.unet(latents, 5, context)
    for hook in hooks:
        hook.remove()
    order = [name for name in base.attention_blocks if name.startswith("down")]  # the order in which they are run
    order += [name for name in base.attention_blocks if name.startswith("mid")]
    order += [name for name in base.attention_blocks if name.startswith("up")]
    return [seen[order.index(name)] for name in base.attention_blocks]


def differ(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


@torch.no_grad()
def test_each_block_uses_its_own_token_vectors(base: Base, concept: TrainedConcept, state_of):
    before, prompts = state_of(base), ["a <Rex>, asleep", "a dog"]
    load_tokens(base.text_encoders, "<rex>", concept.tokens["<rex>"])
    context = base.encode_prompts(prompts)
    read = what_is_read(base, context)
    none = what_is_read(base, base.encode_prompts(["a dog"]))
    remove_tokens(base.text_encoders, "<rex>")
    assert len(read) == len(base.attention_blocks) == 4
    assert state_of(base) == before
    for layer, seen in enumerate(read):
        load_tokens(base.text_encoders, "<rex>", {"text_encoder": vectors_of(concept)[layer]})
        torch.testing.assert_close(seen, base.encode_prompts(prompts))
        torch.testing.assert_close(none[layer], seen[1:])
        remove_tokens(base.text_encoders, "<rex>")
    assert not torch.allclose(read[0][0], read[1][0])


def test_every_cross_attention_of_stable_diffusion_has_a_layer():
    from studio.models.architectures import architecture_parts, architecture_sites

    for name, count in (("sd15", 16), ("sdxl", 11)):
        blocks = attention_blocks(architecture_parts(name)["unet"])
        layers = {layer_of(blocks, site) for site in architecture_sites(name, ("cross_attention_kv",))}
        assert layers == set(range(count))


@pytest.mark.parametrize("regions", [(), (Region("a <rex>", 0, 0, 1, 0.5),)])
def test_generating_with_guidance_and_regions(base: Base, concept: TrainedConcept, regions: tuple[Region, ...]):
    def generated(chosen: TrainedConcept) -> Image.Image:
        with applied(base, {"rex": chosen}):
            return generate(base, "a <rex> and a dog", [1], SETTINGS, regions)[0]

    same, plain = (generated(chosen) for chosen in pairs_of_same(concept))
    assert differ(same, plain) <= 2
    assert differ(generated(concept), plain) > 2


@pytest.mark.parametrize("boxes", [{}, {"rex": Region("a <rex>", 0, 0, 1, 0.5)}])
def test_generating_without_a_merge(base: Base, concept: TrainedConcept, make_concept, boxes: dict[str, Region]):
    requests = [Request("a <rex> and <milo>", 1, {"rex": 1.0, "milo": 0.5}, boxes), Request("a <milo>", 2, {"milo": 1})]
    milo = make_concept(base, "milo", "lora", seed=5)

    def generated(chosen: TrainedConcept) -> list[Image.Image]:
        with Serving(base, {"rex": chosen, "milo": milo}) as serving:
            return serving.generate(requests, SETTINGS)

    same, plain = (generated(chosen) for chosen in pairs_of_same(concept))
    assert max(map(differ, same, plain)) <= 2
    own = generated(concept)
    assert differ(own[0], plain[0]) > 2
    assert differ(own[1], plain[1]) <= 2


def test_gradient_fusion_sees_what_each_layer_reads(base: Base, concept: TrainedConcept, make_concept):
    milo = make_concept(base, "milo", "lora", seed=5)

    def fused(chosen: TrainedConcept) -> dict[str, Tensor]:
        return merged_deltas(base, {"rex": chosen, "milo": milo}, "gradient_fusion")

    same, plain = (fused(chosen) for chosen in pairs_of_same(concept))
    own = fused(concept)
    for name in base.sites_of(("cross_attention_kv",)):
        norm = plain[name].norm()
        assert (same[name] - plain[name]).norm() < 0.01 * norm < (own[name] - plain[name]).norm(), name


def test_files_and_merged_concepts_keep_the_layers(base: Base, concept: TrainedConcept, make_concept):
    assert torch.equal(vectors_of(from_bytes(to_bytes(concept), "it")), vectors_of(concept))
    merged = merged_concept(base, {"rex": concept, "milo": make_concept(base, "milo", seed=2)})
    assert torch.equal(vectors_of(merged), vectors_of(concept))
    assert merged.tokens["<milo>"]["text_encoder"].shape == (1, 32)


@pytest.mark.parametrize("layout", ["kohya", "full"])
def test_other_tools_get_the_mean_of_the_layers(base: Base, concept: TrainedConcept, tmp_path: Path, layout: str):
    output = tmp_path / ("rex.safetensors" if layout == "kohya" else "rex")
    made = export(base, {"rex": concept}, layout, output)
    assert made.averaged == ("<rex>",)
    read = read_token(made.tokens["<rex>"], base.text_encoders).vectors["text_encoder"]
    torch.testing.assert_close(read, vectors_of(concept).mean(0))
    assert export(base, {"rex": pairs_of_same(concept)[1]}, "kohya", tmp_path / "plain.safetensors").averaged == ()
    assert len(load_file(made.tokens["<rex>"])) == 1


def test_a_token_of_another_number_of_layers_is_refused(base: Base, concept: TrainedConcept):
    with (
        applied(base, {"rex": with_vectors(concept, vectors_of(concept)[:3])}),
        pytest.raises(StudioError, match="does not have vectors for the 4 attention blocks"),
    ):
        generate(base, "a <rex>", [1], SETTINGS)


@torch.no_grad()
def test_sdxl_reads_both_encoders_by_layer(xl_folder: Path):
    base = load_base(str(xl_folder), device="cpu")
    widths = {"text_encoder": 32, "text_encoder_2": 48}
    parts = {part: torch.randn(4, 1, width) for part, width in widths.items()}
    load_tokens(base.text_encoders, "<rex>", parts)
    read = base.encode(["a <rex>", "a dog"])
    remove_tokens(base.text_encoders, "<rex>")
    assert read.context.shape[2] == 4 * 80
    plain = []
    for layer in range(4):
        load_tokens(base.text_encoders, "<rex>", {part: vectors[layer] for part, vectors in parts.items()})
        plain.append(base.encode(["a <rex>", "a dog"]))
        remove_tokens(base.text_encoders, "<rex>")
        torch.testing.assert_close(read.context[..., 80 * layer : 80 * (layer + 1)], plain[-1].context)
    assert read.pooled is not None
    torch.testing.assert_close(read.pooled, torch.stack([each.pooled for each in plain]).mean(0))
