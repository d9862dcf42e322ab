"""The scale and form of each layer by a PEFT configuration, which a stranger wrote: every value is checked."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from concepts.errors import StudioError
from studio.formats.imported_layer import Layer

_LARGEST = 1e6
"""No rank, alpha or number of terms is larger than this."""
_LONGEST_PATTERN = 500
# A group with a quantifier after it can take exponential time, and no name of a layer needs one
_SLOW_PATTERN = re.compile(r"\)[*+{]")
_CHANGED_BASES = ("pissa", "olora", "corda", "loftq")
"""Initialisations that also change the frozen weights, which the file then does not contain."""


def configure(layer: Layer, path: str, config: Mapping[str, Any]) -> None:
    """Set a layer's scale, and the form of an OFT's rotation and of (IA)³, from a PEFT configuration.

    `path` is the layer's name below its part. Raises StudioError for values of another type, a rank below 1, patterns
    that are none, and initialisations that change the base.
    """
    if str(config.get("init_lora_weights")).lower().startswith(_CHANGED_BASES):
        raise StudioError(
            f"The adapter was initialised by {_shortened(config['init_lora_weights'])}, which changes the base, and "
            "its file lacks that change. Save it with PEFT's path_initial_model_for_weight_conversion."
        )
    layer.feedforward = _is_feedforward(path, config.get("feedforward_modules"))
    if "oft_block_size" in config:
        terms = _number("num_cayley_neumann_terms", config.get("num_cayley_neumann_terms", 5), least=1)
        layer.series = int(terms) if config.get("use_cayley_neumann", True) else None
        return
    rank = usual = None
    if "r" in config:
        rank = usual = _number("rank", _patterned(path, config, "rank_pattern", config["r"]), least=1)
    usual = config.get("lora_alpha", config.get("alpha", usual))
    if usual is not None or "lora_alpha" in config or "alpha" in config:
        alpha = _number("alpha", _patterned(path, config, "alpha_pattern", usual), least=-_LARGEST)
        if rank is None:
            layer.usual_alpha = alpha
        else:
            layer.rank, layer.rank_stabilized = rank, bool(config.get("use_rslora"))
            layer.scale = alpha / (math.sqrt(rank) if layer.rank_stabilized else rank)


def with_ranks(config: Mapping[str, Any], ranks: Mapping[str, int]) -> dict[str, Any]:
    """A configuration with the ranks of these layers, by their names below the part; one without a rank as it is."""
    if "r" not in config or not ranks:
        return dict(config)
    usual = Counter(ranks.values()).most_common(1)[0][0]
    others = {path.removeprefix("text_model."): rank for path, rank in ranks.items() if rank != usual}
    return {**config, "r": usual, "rank_pattern": others}


def _number(name: str, value: Any, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= _LARGEST:
        raise StudioError(
            f"The adapter's configuration is invalid: its {name} is {_shortened(value)}, not a number from {least:.0f} "
            f"to {_LARGEST:.0f}. Get another copy."
        )
    return value


def _patterned(path: str, config: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """The value of the first pattern that ends the path, by PEFT's rule."""
    patterns = config.get(name) or {}
    if not isinstance(patterns, dict):
        raise _invalid_pattern(name, patterns)
    short = path.removeprefix("text_model.")
    for known, value in patterns.items():
        if any(_ends(name, known, path) for path in (path, short)):
            return value
    return otherwise


def _ends(name: str, pattern: str, path: str) -> bool:
    if len(pattern) > _LONGEST_PATTERN or _SLOW_PATTERN.search(pattern):
        raise _invalid_pattern(name, pattern)
    try:
        return re.match(rf"(.*\.)?({pattern.removeprefix('^')})$", path) is not None
    except (re.error, RecursionError, OverflowError) as error:
        raise _invalid_pattern(name, pattern) from error


def _invalid_pattern(name: str, value: Any) -> StudioError:
    return StudioError(
        f"The adapter's configuration is invalid: its {name} has no valid patterns, {_shortened(value)}. "
        "Get another copy."
    )


def _is_feedforward(path: str, modules: Any) -> bool:
    """Whether PEFT's (IA)³ scales the layer's input."""
    if isinstance(modules, str):
        return _ends("feedforward_modules", modules, path)
    return isinstance(modules, list) and any(isinstance(name, str) and path.endswith(name) for name in modules)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
