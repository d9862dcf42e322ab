"""Gradient fusion of a whole model, in the three stages of Mix-of-Show (Gu et al., 2023, section 3.2)."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from studio.adapters import Adapter
from studio.adapters.concept_file import TrainedConcept
from studio.adapters.injection import injected
from studio.composition.base import MergeMethod, merge_concepts
from studio.composition.gradient_fusion_layer import gradient_fusion_delta
from studio.composition.gram_matrices import gram, recorded
from studio.composition.patching import changed
from studio.layers.target_modules import Site
from studio.models.base_model import Base, generate_latents
from studio.models.layer_strengths import Strength
from studio.models.layerwise_context import layer_of, parts_of
from studio.models.prompt_encoding import positions_of
from studio.models.sampling_settings import SamplingSettings
from studio.models.token_embeddings import layer_count

PROMPTS = ("a photo of {}", "{}", "a picture of {} on the beach", "a photo of {} on a white background")
"""Prompts of each concept for which its layers' inputs are recorded."""
PRESERVATION_PROMPTS = (
    "",
    "a photo",
    "{}",
    "a photo of a {}",
    "a picture of a {} in the forest",
    "a red {} next to a tree",
)
"""Prompts that name no concept, whose outputs should be preserved; {} stands for a concept's class word."""
SAMPLING = SamplingSettings(num_inference_steps=8, batch_size=4)

Adapters = Mapping[str, Mapping[str, Adapter]]  # of each concept, by site


@torch.no_grad()
def fused_deltas(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    sites: Mapping[str, Site],
    adapters: Adapters,
    strengths: Mapping[str, Strength],
    method: MergeMethod = gradient_fusion_delta,
    preserving: bool = False,
) -> dict[str, Tensor]:
    """The merged delta (out, in) of every site by gradient fusion, or by `method`, that with another ridge.

    The concepts' tokens must be in the base.

    First the text encoder, on the concepts' prompts; then the keys and values of cross-attention, on what the merged
    text encoder outputs at the concepts' tokens and the end of the text; then all other sites, on their inputs while
    each concept is sampled alone. With `preserving`, the outputs for `preservation_prompts` should not change in each
    stage, which is not in the source.
    """
    preservation = preservation_prompts(concepts.values()) if preserving else []
    text = {name: site for name, site in sites.items() if site.part in base.text_encoders}
    keys = {name: sites[name] for name in base.sites_of(("cross_attention_kv",)) if name in sites}
    others = {name: site for name, site in sites.items() if name not in text and name not in keys}
    preserved: Mapping[str, Tensor] = {}
    if preserving:
        with recorded(text) as preserved:
            base.encode_prompts(preservation)
    deltas = _stage(method, text, adapters, strengths, _text_grams(base, concepts, text, adapters), preserved)
    with changed(text, deltas):
        if preserving:
            preserved = _input_grams(base, keys, base.encode_prompts(preservation))
        deltas |= _stage(method, keys, adapters, strengths, _context_grams(base, concepts, keys), preserved)
    own = _sampling_grams(base, concepts, sites, others, adapters)
    preserved = _sampled(base, others, preservation) if preserving else {}
    return deltas | _stage(method, others, adapters, strengths, own, preserved)


def prompts_of(concept: TrainedConcept) -> list[str]:
    """The prompts that name a concept's tokens."""
    return [template.format(token) for token in concept.tokens for template in PROMPTS]


def preservation_prompts(concepts: Iterable[TrainedConcept]) -> list[str]:
    """Prompts of the concepts' class words, and the empty prompt."""
    words = dict.fromkeys(str(concept.metadata.get("class_word", "thing")) for concept in concepts)
    return list(dict.fromkeys(template.format(word) for template in PRESERVATION_PROMPTS for word in words))


def _stage(
    method: MergeMethod,
    sites: Mapping[str, Site],
    adapters: Adapters,
    strengths: Mapping[str, Strength],
    grams: Mapping[str, Mapping[str, Tensor]],
    preserved: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    chosen = {concept: {n: a for n, a in own.items() if n in sites} for concept, own in adapters.items()}
    return merge_concepts(method, sites, chosen, strengths, grams, preserved)


def _text_grams(
    base: Base, concepts: Mapping[str, TrainedConcept], text: Mapping[str, Site], adapters: Adapters
) -> dict[str, dict[str, Tensor]]:
    grams = {}
    for name, concept in concepts.items():
        own = {site: adapter for site, adapter in adapters[name].items() if site in text}
        with injected(text, own), recorded({site: text[site] for site in own}) as grams[name]:
            base.encode_prompts(prompts_of(concept))
        # A token by layer is encoded once per layer, and must not weigh more than one encoded once
        vectors = [vectors for parts in concept.tokens.values() for vectors in parts.values()]
        layers = max(map(layer_count, vectors), default=1)
        grams[name] = {site: product / layers for site, product in grams[name].items()}
    return grams


def _context_grams(
    base: Base, concepts: Mapping[str, TrainedConcept], keys: Mapping[str, Site]
) -> dict[str, dict[str, Tensor]]:
    """Each concept's Gram matrices of the contexts, the inputs of keys and values."""
    grams = {}
    for name, concept in concepts.items():
        ids = base.token_ids(prompts_of(concept))
        contexts = base.encode_prompts(prompts_of(concept))
        grams[name] = _input_grams(base, keys, contexts[_named_or_end(base, ids, list(concept.tokens))])
    return grams


def _input_grams(base: Base, keys: Mapping[str, Site], contexts: Tensor) -> dict[str, Tensor]:
    """The Gram matrix of each of these layers' inputs for contexts, (…, d) or by layer; equal inputs share it."""
    grams = [gram(part) for part in parts_of(contexts, base.pipeline.unet.config.cross_attention_dim)]
    if len(grams) == 1:
        return dict.fromkeys(keys, grams[0])
    return {name: grams[layer_of(base.attention_blocks, name)] for name in keys}


def _named_or_end(base: Base, ids: Tensor, tokens: Sequence[str]) -> Tensor:
    """Where token ids (n, tokens) are a concept's own or the end of the text, bool."""
    named = positions_of(base.text_encoders["text_encoder"], ids, tokens)
    return named | (ids == base.pipeline.tokenizer.eos_token_id)


def _sampling_grams(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    sites: Mapping[str, Site],
    others: Mapping[str, Site],
    adapters: Adapters,
) -> dict[str, dict[str, Tensor]]:
    grams = {}
    for name, concept in concepts.items():
        prompts = prompts_of(concept)
        recorded_sites = {site: others[site] for site in adapters[name] if site in others}
        with injected(sites, adapters[name]):
            grams[name] = _sampled(base, recorded_sites, prompts)
    return grams


def _sampled(base: Base, recorded_sites: Mapping[str, Site], prompts: Sequence[str]) -> dict[str, Tensor]:
    """The Gram matrices of these layers' inputs while the prompts are sampled."""
    with recorded(recorded_sites) as grams:
        if recorded_sites:
            generate_latents(base, prompts, range(len(prompts)), SAMPLING)
    return grams
