"""Files that are refused, and what is wrong with each: a table for the tests of the importer and of the command."""

import json
from typing import Any

import torch
from torch import Tensor

from tests.studio.formats.foreign_files import (
    A_B,
    FLAT,
    QUERY,
    TEXT,
    Make,
    kohya,
    peft,
    random,
    spelled,
    tensors,
)
from tests.studio.formats.refused_kinds import FAMILIES, KINDS


def plain(metadata: dict[str, Any] | str) -> Make:
    """A LoRA in diffusers' layout with a PEFT configuration in its metadata."""
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    return tensors(spelled({QUERY: f"unet.{QUERY}"}, A_B, None), {"lora_adapter_metadata": text})


def with_value(value: float, role: str = "alpha") -> Make:
    held: dict[str, Tensor] = kohya(QUERY)
    return tensors({**held, f"{FLAT}.{role}": torch.full_like(held[f"{FLAT}.{role}"], value)})


METADATA = {
    "not JSON": (plain("{'unet.r': 4}"), "lora_adapter_metadata of rex.safetensors is not JSON"),
    "empty": (plain(""), "lora_adapter_metadata of rex.safetensors is not JSON"),
    "too deep": (plain("[" * 100_000), "lora_adapter_metadata of rex.safetensors is not JSON"),
    "a list": (plain("[1, 2]"), "is not a JSON object"),
    "rank null": (plain({"unet.r": None, "unet.lora_alpha": 8}), "its rank is None, not a number from 1"),
    "rank 0": (plain({"unet.r": 0, "unet.lora_alpha": 8}), "its rank is 0, not a number from 1"),
    "rank as text": (plain({"unet.r": "4", "unet.lora_alpha": "8"}), "its rank is '4', not a number"),
    "rank NaN": (plain('{"unet.r": NaN}'), "its rank is nan, not a number"),
    "rank too large": (plain('{"unet.r": 1e400}'), "its rank is inf, not a number"),
    "another rank than the tensors": (plain({"unet.r": 8}), "has rank 4, and by its configuration rank 8"),
    "alpha null": (plain({"unet.r": 4, "unet.lora_alpha": None}), "its alpha is None, not a number"),
    "alpha true": (plain({"unet.r": 4, "unet.lora_alpha": True}), "its alpha is True, not a number"),
    "bad pattern": (plain({"unet.r": 4, "unet.rank_pattern": {"*.to_q": 4}}), "its rank_pattern has no valid patterns"),
    "slow pattern": (
        plain({"unet.r": 4, "unet.alpha_pattern": {"(a+)+x": 4}}),
        "its alpha_pattern has no valid patterns",
    ),
    "list of patterns": (peft(rank_pattern=["a"]), r"its rank_pattern has no valid patterns, \['a'\]"),
    "flat rank": (
        tensors(kohya(QUERY, alpha=None), {"rank": "four"}),
        "The metadata rank of rex.safetensors is not a number",
    ),
    "PEFT, rank 0": (peft(r=0), "its rank is 0"),
    "PEFT, rank as text": (peft(r="4"), "its rank is '4'"),
    "PEFT, alpha null": (peft(lora_alpha=None), "its alpha is None"),
    "PEFT, type in a list": (peft(peft_type=["LORA"]), "PEFT type .* is not supported"),
    "PEFT, VeRA": (peft(peft_type="VERA"), "The PEFT type VERA of .* is not supported"),
    "PEFT, terms": (
        peft(peft_type="OFT", oft_block_size=8, num_cayley_neumann_terms=10**9),
        "num_cayley_neumann_terms is 1000000000",
    ),
    "PEFT, PiSSA": (peft(init_lora_weights="pissa_niter_4"), "initialised by 'pissa_niter_4', which changes the base"),
}

VALUES = {
    "alpha NaN": (with_value(float("nan")), "alpha' has NaN or infinite values"),
    "alpha infinite": (with_value(float("inf")), "alpha' has NaN or infinite values"),
    "NaN": (with_value(float("nan"), "lora_up.weight"), "has NaN or infinite values"),
    "alpha of two numbers": (
        tensors({**kohya(QUERY), f"{FLAT}.alpha": torch.ones(2)}),
        "the alpha of .* is not one number",
    ),
    "rank 0": (
        tensors({f"{FLAT}.lora_up.weight": torch.zeros(32, 0), f"{FLAT}.lora_down.weight": torch.zeros(0, 32)}),
        r"is empty, of shape",
    ),
    "complex": (tensors({f"{FLAT}.lora_up.weight": torch.zeros(32, 4, dtype=torch.complex64)}), "is complex"),
    "numbers": (
        tensors({f"{FLAT}.lora_up.weight": torch.ones(()), f"{FLAT}.lora_down.weight": torch.ones(())}),
        "inconsistent shapes",
    ),
    "vectors": (
        tensors({f"{FLAT}.lora_up.weight": torch.ones(32), f"{FLAT}.lora_down.weight": torch.ones(32)}),
        "inconsistent shapes",
    ),
    "LoHa of two ranks": (
        tensors(
            {
                f"{FLAT}.hada_{role}": torch.ones(shape)
                for role, shape in {"w1_a": (32, 4), "w1_b": (5, 32), "w2_a": (32, 4), "w2_b": (4, 32)}.items()
            }
        ),
        "inconsistent shapes",
    ),
    "half a pair": (tensors({f"{FLAT}.lora_up.weight": random(32, 4)}), "lacks its lora tensor down"),
    "alpha alone": (tensors({f"{FLAT}.alpha": torch.ones(())}), "has an alpha or magnitudes, but no weights"),
    "one layer by two names": (
        tensors({**spelled({QUERY: f"unet.{QUERY}"}, A_B), **kohya(QUERY)}),
        "has the layer .* twice",
    ),
    "LoKr whole and as factors": (
        tensors(
            {
                f"{FLAT}.lokr_{role}": torch.ones(shape)
                for role, shape in (("w1", (4, 4)), ("w1_a", (4, 2)), ("w1_b", (2, 4)), ("w2", (8, 8)))
            }
        ),
        "has w1 whole and as factors",
    ),
    "two types": (tensors({**kohya(QUERY), f"{FLAT}.diff": random(32, 32)}), "tensors of two adapter types"),
    "a whole weight": (tensors({f"{FLAT}.weight": random(32, 32)}), "has a whole weight"),
    "oft_diag": (tensors({f"{FLAT}.oft_diag": random(4, 8, 8)}), f"the oft_diag of {FLAT} is no rotation"),
    "OFT of other dimensions": (tensors({f"{FLAT}.oft_R.weight": random(4, 28, 1, 1)}), "inconsistent shapes"),
    "too large": (with_value(1e20, "lora_up.weight"), "not finite, or too large for a weight"),
    "OFT of another size": (tensors({f"{FLAT}.oft_blocks": random(4, 7, 7)}), "does not fit this base"),
    "BOFT of another size": (tensors({f"{FLAT}.oft_blocks": random(3, 4, 4, 4)}), "does not fit this base"),
    "BOFT of too many stages": (tensors({f"{FLAT}.oft_blocks": random(5, 8, 4, 4)}), "does not fit this base"),
    "IA3 of another size": (
        tensors({f"{FLAT}.weight": random(31), f"{FLAT}.on_input": torch.tensor(0)}),
        "it scales 31 features",
    ),
    "two text encoders": (
        tensors({**kohya(TEXT), "lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": torch.ones(())}),
        "for Stable Diffusion XL,",
    ),
}

REFUSED: dict[str, tuple[Make, str]] = {
    f"{group}: {name}": row
    for group, rows in {"metadata": METADATA, "family": FAMILIES, "kind": KINDS, "values": VALUES}.items()
    for name, row in rows.items()
}
