"""The keys of single-file checkpoints as the original code has them, also where a file lacks a prefix of them."""

import re

_OUTER = re.compile(r"^(state_dict|module)\.")
_PREFIXES = (
    (re.compile(r"^(?=(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)\.)"), "diffusion_model."),
    (re.compile(r"^(?=diffusion_model\.)"), "model."),
    (re.compile(r"^(?=(encoder|decoder)\.(down|up|mid|conv_in|conv_out|norm_out)\.)"), "first_stage_model."),
    (re.compile(r"^(?=(post_)?quant_conv\.)"), "first_stage_model."),
    (re.compile(r"^(?=transformer\.(text_model|embeddings|encoder|final_layer_norm)\.)"), "cond_stage_model."),
    (
        re.compile(
            r"^(?=model\.(transformer\.resblocks|token_embedding|positional_embedding|ln_final|text_projection))"
        ),
        "cond_stage_model.",
    ),
    (re.compile(r"^(?=embedders\.\d)"), "conditioner."),
    (
        re.compile(
            r"^(?P<outer>cond_stage_model\.transformer\.|conditioner\.embedders\.0\.transformer\.)"
            r"(?=(embeddings|encoder|final_layer_norm)\.)"
        ),
        r"\g<outer>text_model.",
    ),
)
"""What is put at a place that a pattern finds: each prefix that files were saved without."""


def full_key(key: str) -> str:
    """The key in the original code (LDM, SGM) of a checkpoint's key."""
    key = _OUTER.sub("", key)
    for pattern, prefix in _PREFIXES:
        key = pattern.sub(prefix, key)
    return key
