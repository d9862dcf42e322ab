"""Layers of PEFT's and diffusers' layouts: the keys' suffixes, and the scale from the configuration."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from concepts.errors import StudioError
from studio.formats.imported_layer import Layer
from studio.formats.layer_names import field_path
from studio.layers.target_modules import Site

_ROLES = {
    "lora_A.weight": ("lora", "down"),
    "lora_B.weight": ("lora", "up"),
    "lora_B.bias": ("bias", "bias"),
    **{f"hada_{role}": ("loha", role) for role in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"lokr_{role}": ("lokr", role) for role in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    "oft_R.weight": ("input_oft", "numbers"),
}
_MAGNITUDES = ("lora_magnitude_vector", "lora_magnitude_vector.weight")
# diffusers before PEFT: "….attn1.processor.to_q_lora.down.weight", "….to_q.lora.down.weight", "….lora_linear_layer.…"
_OLD_PROCESSOR = re.compile(r"\.to_(q|k|v|out)_lora\.(down|up)\.weight$")
_OLD_LORA = re.compile(r"\.(?:lora|lora_linear_layer)\.(down|up)\.weight$")
_ENDING = re.compile(
    r"\.(?P<role>lora_[AB]\.weight|lora_B\.bias|lora_magnitude_vector(?:\.weight)?|hada_(?:w[12]_[ab]|t[12])"
    r"|lokr_(?:w[12](?:_[ab])?|t2)|oft_R\.weight|alpha)$"
)


def layer_places(sites: Mapping[str, Site]) -> dict[tuple[str, str], str]:
    """Each site's name by its part and field path."""
    return {(site.part, field_path(site)): name for name, site in sites.items()}


def split_key(part: str, key: str) -> tuple[str, str]:
    """A key below its part as the layer's field path and its suffix; the suffix is empty where it is not known."""
    key = _OLD_PROCESSOR.sub(lambda m: f".{_projection(part, m[1])}.lora_{'AB'[m[2] == 'up']}.weight", key)
    key = _OLD_LORA.sub(lambda match: f".lora_{'AB'[match[1] == 'up']}.weight", key)
    ending = _ENDING.search(key)
    path = (key[: ending.start()] if ending else key).replace(".processor", "")
    if part != "unet" and not path.startswith(("text_model.", "text_projection")):
        path = f"text_model.{path}"
    return path, ending["role"] if ending else ""


def _projection(part: str, letter: str) -> str:
    if part == "unet":
        return "to_out.0" if letter == "out" else f"to_{letter}"
    return f"{letter}_proj"


def gather(
    part: str, tensors: Mapping[str, Tensor], places: Mapping[tuple[str, str], str], config: Mapping[str, Any]
) -> dict[str, Layer]:
    """The layers of one part by the base's site names, from tensors by their key below the part.

    Raises StudioError for keys of no layer or of no known kind.
    """
    layers: dict[str, Layer] = {}
    for key, tensor in tensors.items():
        path, role = split_key(part, key)
        if (part, path) not in places:
            raise StudioError(
                f"The base has no layer {part}.{path}, which the file adapts. Give a base of the file's family "
                "with --base."
            )
        layer = layers.setdefault(places[part, path], Layer(f"{part}.{path}"))
        configure(layer, path, config)
        put(layer, key, role, tensor)
    return layers


def put(layer: Layer, key: str, role: str, tensor: Tensor) -> None:
    """Add a tensor by its suffix; StudioError for an unknown one."""
    if role == "alpha":
        layer.alpha = tensor
    elif role in _MAGNITUDES:
        layer.magnitude = tensor.reshape(-1, 1)  # always of rows, also for a convolution, (1, out, 1, 1)
    elif role in _ROLES:
        layer.put(*_ROLES[role], tensor)
    else:
        raise StudioError(
            f"The adapter type of {key} is not supported. Supported are LoRA, LoCon, LoHa, LoKr, OFT, DoRA and full."
        )


def configure(layer: Layer, path: str, config: Mapping[str, Any]) -> None:
    """Set the layer's scale, and the form of an OFT's rotation, from a PEFT configuration."""
    if "oft_block_size" in config:
        layer.series = config.get("num_cayley_neumann_terms", 5) if config.get("use_cayley_neumann", True) else None
        return
    rank = _patterned(path, config.get("rank_pattern"), config.get("r"))
    if rank is None:
        return
    alpha = _patterned(path, config.get("alpha_pattern"), config.get("lora_alpha", config.get("alpha", rank)))
    layer.scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank


def _patterned(path: str, pattern: Mapping[str, float] | None, otherwise: Any) -> Any:
    """The value of the first pattern that ends the path, by PEFT's rule."""
    short = path.removeprefix("text_model.")
    for known, value in (pattern or {}).items():
        if any(re.match(rf"(.*\.)?({known.removeprefix('^')})$", name) for name in (path, short)):
            return value
    return otherwise
