"""LyCORIS' layout: each layer's change in its method's own tensors, exactly, for ComfyUI, Forge and, where biases do
not change, A1111.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.concept_file import TrainedConcept
from studio.composition.loaded_concept import load_concepts, sites_of
from studio.composition.merge import merged_changes
from studio.composition.merge_config import MergeConfig
from studio.composition.output_changes import refuse_unexportable
from studio.formats.layer_names import kohya_names
from studio.layers.target_modules import Site
from studio.models.base_model import Base
from studio.models.families import family_of
from studio.models.layer_strengths import strength_at

Terms = Mapping[str, Tensor]

_HADAMARD = {"first_up": "hada_w1_a", "first_down": "hada_w1_b", "second_up": "hada_w2_a", "second_down": "hada_w2_b"}


@torch.no_grad()
def lycoris_tensors(
    base: Base, concepts: Mapping[str, TrainedConcept], config: MergeConfig, every_site: Mapping[str, Site]
) -> dict[str, Tensor]:
    """One concept's tensors by key, or the differences of several merged ones; `every_site` are all of the base's
    matrices and norms.

    LoRA, LoHa and Kronecker products keep their own tensors, LoKr's second matrix as a whole; changes of biases and
    norms are stored too, and whatever else may have any rank is a difference. Raises StudioError for a concept that
    changes embeddings.
    """
    loaded = load_concepts(base, concepts)
    sites, names = sites_of(loaded), kohya_names(every_site, family_of(base.parts))
    if any(site.role == "output" for concept in loaded.values() for site in concept.sites.values()):
        raise StudioError(
            "No file of layers can store changes of embeddings, which this concept has. Export it with --format full."
        )
    refuse_unexportable(loaded)
    if len(loaded) == 1:
        ((name, concept),) = loaded.items()
        strength = config.strengths_for(concepts)[name]
        terms: dict[str, Terms] = {
            site: _own_terms(adapter, sites[site], strength_at(strength, site))
            for site, adapter in concept.modules.items()
        }
    else:
        deltas, biases = merged_changes(base, loaded, config)
        terms = {
            site: {"difference": delta} | ({"bias": biases[site]} if site in biases else {})
            for site, delta in deltas.items()
        }
    return {
        f"{names[site]}.{key}": tensor
        for site, own in terms.items()
        for key, tensor in _layer(own, sites[site]).items()
    }


def _own_terms(adapter: Adapter, site: Site, strength: float) -> Terms:
    """An adapter's terms, or the difference that they make where LyCORIS has none of the kind for this layer."""
    if site.role == "norm":
        change = adapter.bias_delta(site.weight, site.bias, strength)
        return {"difference": adapter.delta(site.weight, strength)} | ({} if change is None else {"bias": change})
    terms = adapter.terms(site.weight, site.bias, strength)
    undivided = (
        "left" in terms and isinstance(site.module, nn.Conv2d) and (site.module.in_channels % terms["left"].shape[1])
    )
    # DoRA's magnitudes of rows are read in another way by each tool
    if not (undivided or {"turn_in", "turn_out", "rescale", "rescale_in", "magnitude"} & terms.keys()):
        return terms
    kept = {"bias": terms["bias"]} if "bias" in terms else {}
    return {"difference": adapter.delta(site.weight, strength), **kept}


def _layer(terms: Terms, site: Site) -> dict[str, Tensor]:
    """One layer's tensors by the last part of their keys."""
    kernel = site.module.weight.shape[1:]
    norm, convolution = site.role == "norm", isinstance(site.module, nn.Conv2d)
    tensors: dict[str, Tensor] = {}
    if "up" in terms:
        up, down = terms["up"], terms["down"]
        tensors["lora_up.weight"] = up[:, :, None, None] if convolution else up
        tensors["lora_down.weight"] = down.unflatten(1, kernel) if convolution else down
        tensors["alpha"] = torch.tensor(float(len(down)))
    if "first_up" in terms:
        tensors |= {key: terms[name] for name, key in _HADAMARD.items()}
        tensors["alpha"] = torch.tensor(float(len(terms["first_down"])))
    if "left" in terms:
        right = terms["right"]
        tensors["lokr_w1"] = terms["left"]
        tensors["alpha"] = torch.tensor(1.0)  # LyCORIS wants one, and ignores it for whole matrices
        tensors["lokr_w2"] = right.unflatten(1, (-1, *kernel[1:])) if convolution else right
    if "difference" in terms:
        tensors["w_norm" if norm else "diff"] = terms["difference"].reshape(site.module.weight.shape)
    if "bias" in terms:
        tensors["b_norm" if norm else "diff_b"] = terms["bias"]
    return tensors
