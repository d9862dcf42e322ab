"""Layer-wise prompt embeddings: every attention block of a UNet gets its own (Gu et al., 2023, section 3.1).

A context by layer is the concatenation of all blocks' parts, (n, tokens, layers × d), so code that handles rows and
tokens is the same. A block is a diffusers Transformer2DModel; in Stable Diffusion 1.x and 2.x each has one
cross-attention.
"""

from functools import partial
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from concepts.errors import StudioError


def attention_blocks(unet: nn.Module) -> list[str]:
    """The names of the blocks with cross-attention, in the order of their parts in a context."""
    return [name for name, module in unet.named_modules() if isinstance(module, Transformer2DModel)]


def layer_of(blocks: list[str], site: str) -> int:
    """The index of the part for a site of the UNet, as in "unet.mid_block.attentions.0.….attn2.to_k"."""
    return next(index for index, block in enumerate(blocks) if site.startswith(f"unet.{block}."))


def parts_of(context: Tensor, width: int) -> tuple[Tensor, ...]:
    """Each block's part, (…, width), of a context by layer; of a plain context, itself."""
    return context.split(width, -1)


def read_own_parts(unet: UNet2DConditionModel) -> None:
    """Hooks each attention block to use its own part of a context by layer; plain contexts are unchanged."""
    blocks, config = attention_blocks(unet), unet.config
    for index, name in enumerate(blocks):
        hook = partial(_read_own_part, index, len(blocks), config["cross_attention_dim"])
        unet.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True)


def _read_own_part(
    index: int, layers: int, width: int, _block: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    context = options.get("encoder_hidden_states")
    if context is None or context.shape[-1] == width:
        return inputs, options
    if context.shape[-1] != layers * width:
        raise StudioError(
            f"The layer-wise token does not have vectors for the {layers} attention blocks of this base. Use "
            "a concept of this base."
        )
    return inputs, {**options, "encoder_hidden_states": parts_of(context, width)[index]}
