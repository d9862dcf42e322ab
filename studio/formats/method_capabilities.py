"""What is known of every method beside its cost: its equation and source, what merges it, and where it exports to."""

import inspect
import re
from typing import Any

from studio.adapters import Adapter
from studio.adapters.prefix_tuning import PrefixTuning
from studio.adapters.registry import method_named
from studio.adapters.t_lora import TLora

WEIGHT_MERGES = (
    "fedavg", "gradient_fusion", "gradient_fusion_preserving", "contrast", "automatic_strengths", "custom_diffusion",
    "ties", "dare", "svd", "magnitude",
)  # fmt: skip
"""The merge methods of any change of a weight matrix; `spectral` and `orthogonal` have adapters of their own."""
_OWN_MERGE = {"spectral_additive": "spectral", "orthogonal": "orthogonal"}
_LAYOUTS = ("kohya", "diffusers", "peft", "lycoris", "full")


def capabilities(adapter: str, config: Any, exact_rank: int | None) -> dict[str, Any]:
    """The method's `equation` and `source` by its documentation, None where Python left that out; the merge methods
    that take it, in `merges`; and in `exports`, for each layout, "exact", "approximated" or "no".
    """
    method = method_named(adapter)
    text = " ".join(inspect.cleandoc(method.__doc__ or "").split())
    first = inspect.cleandoc(method.__doc__ or "").split("\n\n")[0].partition(": ")[2]
    source = re.split(r"(?<!Eq)\. ", text.partition("Source: ")[2])[0]
    return {
        "equation": " ".join(first.split()) or None,
        "source": source.rstrip(".") or None,
        "merges": _merges(adapter, method, config),
        "exports": dict(zip(_LAYOUTS, _exports(method, config, exact_rank), strict=True)),
    }


def _merges(adapter: str, method: type[Adapter], config: Any) -> list[str]:
    kinds = method.kinds(config)
    if not kinds:
        return ["any, since there is nothing to merge but tokens"]
    if issubclass(method, PrefixTuning):
        return ["concatenation"]
    if issubclass(method, TLora):
        return ["sum, by timestep"]
    if getattr(config, "activation", "none") != "none":
        return ["sum, in generation"]
    if {"norm", "bias", "vocabulary", "text_output", "latent_input"} & set(kinds):
        return ["fedavg", "ties", "dare", "svd", "magnitude"]
    own = [_OWN_MERGE[adapter]] if adapter in _OWN_MERGE else []
    return [*own, *WEIGHT_MERGES]


def _exports(method: type[Adapter], config: Any, exact_rank: int | None) -> tuple[str, ...]:
    """One of "exact", "approximated", "without biases" and "no" for each of the layouts."""
    kinds = set(method.kinds(config))
    if not kinds:
        return ("exact", "exact", "no", "exact", "exact")  # as an embedding file
    if issubclass(method, PrefixTuning):
        return ("no",) * 5
    if issubclass(method, TLora):
        return ("approximated",) * 4 + ("no",)
    if getattr(config, "activation", "none") != "none":
        return ("no",) * 5
    if kinds & {"vocabulary", "text_output", "latent_input"}:
        return ("no", "no", "no", "no", "exact")
    if kinds & {"norm", "bias"}:
        return ("no", "no", "no", "exact", "exact")
    plain = "approximated" if exact_rank is None else "exact"
    loses = method.bias_delta is not Adapter.bias_delta
    return ("without biases" if loses and plain == "exact" else plain, plain, plain, "exact", "exact")
