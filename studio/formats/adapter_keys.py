"""The endings of the keys in other tools' files: which tensor of which adapter type each one names."""

import re

_LOHA = ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")
_LOKR = ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
_GLORA = [f"{path}.{role}" for path in "ABCDE" for role in ("X", "Xd", "Xu", "zeros")]
ENDINGS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("lora_up.weight", "lora_B.weight"), ("lora", "up")),
    **dict.fromkeys(("lora_down.weight", "lora_A.weight"), ("lora", "down")),
    "lora_mid.weight": ("lora", "mid"),
    **{f"hada_{role}": ("loha", role) for role in _LOHA},
    **{f"lokr_{role}": ("lokr", role) for role in _LOKR},
    "oft_blocks": ("output_oft", "blocks"),
    "oft_diag": ("output_oft", "rotations"),
    "rescale": ("output_oft", "rescale"),
    "oft_R.weight": ("input_oft", "numbers"),
    **{f"{role}.weight": ("glora", role) for role in ("a1", "a2", "b1", "b2", "bm")},
    **{f"glora_{place}": ("peft_glora", place) for place in _GLORA},
    "weight": ("ia3", "weight"),
    "on_input": ("ia3", "on_input"),
    "ia3_l": ("peft_ia3", "scales"),
    **dict.fromkeys(("diff", "w_norm"), ("difference", "weight")),
    **dict.fromkeys(("diff_b", "b_norm", "lora_B.bias"), ("bias", "bias")),
    "alpha": ("", "alpha"),
    "dora_scale": ("", "magnitude"),
    **dict.fromkeys(("lora_magnitude_vector", "lora_magnitude_vector.weight"), ("", "row_magnitude")),
}  # fmt: skip
"""Adapter type and tensor by the last parts of a key; alpha and DoRA's magnitudes belong to no type alone."""
SUPPORTED = "Supported are LoRA, LoCon, LoHa, LoKr, OFT, BOFT, GLoRA, (IA)³, DoRA, norms and full."

# "….to_q_lora.up.weight", "….to_q.lora.up.weight" and "….q_proj.lora_linear_layer.up.weight" of diffusers before PEFT
_OLDER = re.compile(r"(?:_lora|\.lora|\.lora_linear_layer)\.(up|down)\.weight$")
# PEFT's state dict before it leaves out the adapter's name
_NAMED = re.compile(r"\.(lora_[AB]|lora_magnitude_vector|oft_R|ia3_l|hada_\w+|lokr_\w+|glora_[A-E])\.default(?=\.|$)")


def split_key(key: str) -> tuple[str, tuple[str, str] | None]:
    """A key as the path of its module, and the adapter type and tensor of its ending; None where the ending is unknown,
    and the path is then the whole key.
    """
    parts = _NAMED.sub(r".\1", _OLDER.sub(r".lora_\1.weight", key)).split(".")
    for count in (2, 1):
        ending = ".".join(parts[-count:])
        if len(parts) > count and ending in ENDINGS:
            return ".".join(parts[:-count]), ENDINGS[ending]
    return key, None


def is_adapter_key(key: str) -> bool:
    """Whether a key has the ending of an adapter's tensor; a plain `.weight` alone could be any model's."""
    known = split_key(key)[1]
    return known is not None and known != ("ia3", "weight")
