"""The pairs that the composition study compares: an adapter and a merge method, with training variants."""

import random
from dataclasses import dataclass
from typing import Any

from concepts.errors import StudioError
from studio.adapters.registry import method_named
from studio.composition import MERGES

UNMERGED = "unmerged"
"""Instead of a merge: each concept's adapters apply separately, with regions only inside its box."""

VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "no_prior": {"prior_ratio": 0.0},
    "no_preservation_loss": {"output_preservation_weight": 0.0},
    "few_sites": {"target_modules": ("cross_attention_kv", "text_attention")},
    "in_token": {"num_vectors": 4, "token_lr": 1e-2, "unet_lr": 5e-4, "text_encoder_lr": 1e-4},
    "bottom_columns": {"options": {"columns": "bottom"}},
    "random_columns": {},
    "random_basis": {"options": {"columns": "random_basis"}},
    "sampled_columns": {"options": {"columns": "sampled"}},
}
"""Training variants, as changes of the recipe: the default; no prior loss; prior loss without preservation loss; only
keys and values of cross-attention and the text encoder; more of the identity in the token, less in the weights; and,
with the default recipe, other singular columns than the top ones: each matrix's own bottom ones, random blocks of the
stored ones (`first_column`), a random orthonormal basis, or columns sampled without coordination."""


def first_column(variant: str, place: int, rank: int, capacity: int, seed: int) -> int:
    """The first column of the concept's block: in turn, or by the variant at random, always without overlap."""
    blocks = list(range(0, capacity - rank + 1, rank))
    if variant == "random_columns":
        random.Random(seed).shuffle(blocks)
    return blocks[place]


@dataclass(frozen=True)
class Pair:
    """An adapter with a merge method, with strengths of 1/k or not, and a training variant."""

    adapter: str
    method: str
    averaged: bool = False
    variant: str = ""

    def __str__(self) -> str:
        """The pair as text: ADAPTER+METHOD, with +average and +VARIANT where they apply."""
        parts = (self.adapter, self.method, "average" if self.averaged else "", self.variant)
        return "+".join(part for part in parts if part)


PAIRS = (
    Pair("spectral_additive", "spectral"),
    Pair("spectral_additive", "spectral", averaged=True),
    Pair("spectral_additive", "gradient_fusion"),
    Pair("spectral_additive", UNMERGED),
    Pair("lora", "fedavg"),
    Pair("lora", "fedavg", averaged=True),
    Pair("lora", "gradient_fusion"),
    Pair("lora", "ties"),
    Pair("lora", "dare"),
    Pair("lora", "svd"),
    Pair("lora", UNMERGED),
    Pair("orthogonal", "orthogonal"),
    Pair("orthogonal", "orthogonal", averaged=True),
    Pair("spectral_additive", "spectral", variant="no_prior"),
    Pair("spectral_additive", "spectral", variant="no_preservation_loss"),
    Pair("spectral_additive", "spectral", variant="few_sites"),
    Pair("spectral_additive", "gradient_fusion", variant="few_sites"),
    Pair("spectral_additive", "spectral", variant="in_token"),
    Pair("spectral_additive", "spectral", variant="bottom_columns"),
    Pair("spectral_additive", "spectral", variant="random_columns"),
    Pair("spectral_additive", "spectral", variant="random_basis"),
    Pair("spectral_additive", "spectral", variant="sampled_columns"),
    Pair("spectral_rotational", "fedavg"),
    Pair("spectral_rotational", "fedavg", variant="bottom_columns"),
    Pair("spectral_rotational", "fedavg", variant="random_columns"),
    Pair("spectral_rotational", "fedavg", variant="random_basis"),
)
"""The papers' pairs, the common merge methods, ablations of the prior and preservation losses, and other columns."""


def pair_from(text: str) -> Pair:
    """The pair of a text ADAPTER+METHOD with optional +average and +VARIANT; StudioError for unknown parts."""
    adapter, _, rest = text.partition("+")
    method, *others = rest.split("+")
    method_named(adapter)
    if method not in (*MERGES, UNMERGED):
        raise StudioError(
            f"The pair {text!r} is invalid. Write it as ADAPTER+METHOD with one of the methods "
            f"{', '.join((*MERGES, UNMERGED))}."
        )
    if unknown := [other for other in others if other not in ("average", *VARIANTS) or not other]:
        known = ", ".join(("average", *filter(None, VARIANTS)))
        raise StudioError(f"The pair {text!r} has an unknown variant {unknown[0]!r}. Choose from {known}.")
    variant = next((other for other in others if other != "average"), "")
    return Pair(adapter, method, "average" in others, variant)
