"""Which layers of a model are adapted.

A site is a layer whose frozen weight is seen as a matrix (out, in): a convolution's is flattened to
(out, in * kernel height * kernel width), a norm's is (features, 1), and where the output of the text
encoder, of its token embedding or of the UNet's first convolution is adapted, the weight is the identity
(d, d) after that output.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPMLP, CLIPAttention, CLIPTextEmbeddings, CLIPTextModel

from concepts.errors import StudioError

Norm = nn.LayerNorm | nn.GroupNorm
Layer = nn.Linear | nn.Conv2d | Norm | nn.Embedding

Role = Literal["matrix", "branch_end", "norm", "output"]
"""The role of a site in its model: a matrix; the last one of an attention or feed-forward branch; a norm's weights;
or the output of a module, with the identity as its weight."""


@dataclass(frozen=True)
class Site:
    """A layer that can be adapted, and its position in the model.

    `name` is the layer's path below its part, as in "unet.mid_block.attentions.0.….attn1.to_q"; `parent` and
    `attribute` are where injection puts the adapted layer.
    """

    name: str
    part: str
    module: Layer
    parent: nn.Module
    attribute: str
    role: Role = "matrix"

    @property
    def weight(self) -> Tensor:
        """The frozen weight as a matrix (out, in): a view, not a copy, except of an output's identity."""
        if self.role == "output":
            width = self.module.weight.shape[0 if isinstance(self.module, nn.Conv2d) else -1]
            return torch.eye(width, device=self.module.weight.device)
        return self.module.weight[:, None] if self.role == "norm" else self.module.weight.flatten(1)

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias (out,), if the layer has one that the weight's product is added to."""
        return None if self.role == "output" or isinstance(self.module, nn.Embedding) else self.module.bias


def find_sites(parts: Mapping[str, nn.Module], kinds: Iterable[str] = ("attention",)) -> dict[str, Site]:
    """The sites of the given kinds (keys of KINDS) in a model's parts, by name, in the model's own order.

    `parts` names the modules to search, as in {"unet": unet, "text_encoder": text_encoder}. Raises
    StudioError for a kind that does not exist or when nothing was found of the kinds, if there are any.
    """
    kinds = list(kinds)
    selectors = [_selector(kind) for kind in kinds]
    sites = {site.name: site for part, root in parts.items() for site in _sites_of(part, root, selectors)}
    if kinds and not sites:
        raise StudioError(f"{', '.join(parts)} has no {' or '.join(kinds)} layers. Choose other target modules.")
    return sites


def _sites_of(part: str, root: nn.Module, selectors: "list[Selector]") -> Iterator[Site]:
    chosen: dict[int, Role] = {
        id(layer): role for module in root.modules() for select in selectors for layer, role in select(module)
    }
    ends = {id(layer) for module in root.modules() for layer in _branch_ends(module)}
    for path, parent in root.named_modules(prefix=part):
        for attribute, layer in parent.named_children():
            if id(layer) in chosen and isinstance(layer, Layer):
                role: Role = "branch_end" if id(layer) in ends else chosen[id(layer)]
                yield Site(f"{path}.{attribute}", part, layer, parent, attribute, role)


Chosen = Iterator[tuple[nn.Module, Role]]


def _matrices(layers: Iterable[nn.Module | None]) -> Chosen:
    return ((layer, "matrix") for layer in layers if layer is not None)


def _attention(module: nn.Module) -> Chosen:
    """Query, key, value and output projections of self- and cross-attention."""
    if isinstance(module, Attention):
        yield from _matrices((module.to_q, module.to_k, module.to_v))
        yield from _matrices(module.to_out[:1] if module.to_out is not None else ())
    elif isinstance(module, CLIPAttention):
        yield from _matrices((module.q_proj, module.k_proj, module.v_proj, module.out_proj))


def _attention_kv(module: nn.Module) -> Chosen:
    """Key and value projections of self- and cross-attention."""
    if isinstance(module, Attention):
        yield from _matrices((module.to_k, module.to_v))
    elif isinstance(module, CLIPAttention):
        yield from _matrices((module.k_proj, module.v_proj))


def _cross_attention_kv(module: nn.Module) -> Chosen:
    """Key and value projections of cross-attention: the layers that read the prompt."""
    if isinstance(module, Attention) and module.is_cross_attention:
        yield from _matrices((module.to_k, module.to_v))


def _text_attention(module: nn.Module) -> Chosen:
    """Query, key, value and output projections of the text encoder."""
    if isinstance(module, CLIPAttention):
        yield from _attention(module)


def _feed_forward(module: nn.Module) -> Chosen:
    """The two linear layers of a transformer block's feed-forward network."""
    if isinstance(module, FeedForward | CLIPMLP):
        yield from _matrices(layer for layer in module.modules() if isinstance(layer, nn.Linear))


def _feed_forward_out(module: nn.Module) -> Chosen:
    """The last linear layer of a transformer block's feed-forward network, which reads the inner activation."""
    if isinstance(module, FeedForward | CLIPMLP):
        yield from _matrices(_branch_ends(module))


def _linear(module: nn.Module) -> Chosen:
    """Every linear layer."""
    if isinstance(module, nn.Linear):
        yield module, "matrix"


def _convolution(module: nn.Module) -> Chosen:
    """Convolutions, except grouped ones, which are not one matrix."""
    if isinstance(module, nn.Conv2d) and module.groups == 1:
        yield module, "matrix"


def _inner_convolution(module: nn.Module) -> Chosen:
    """The convolutions of a UNet's blocks, and the projections around their transformers; not conv_in and conv_out."""
    match module:
        case ResnetBlock2D():
            yield from _matrices((module.conv1, module.conv2, module.conv_shortcut))
        case Downsample2D() | Upsample2D():
            yield from _matrices((module.conv,))
        case Transformer2DModel():
            yield from _matrices((module.proj_in, module.proj_out))


def _up_convolution(module: nn.Module) -> Chosen:
    """The inner convolutions of the UNet's up blocks with cross-attention.

    On toybox the other blocks' convolutions add little (identity accuracy 0.89 without them, 0.92 with), and increase
    leakage (0.063 and 0.022 by themselves).
    """
    if isinstance(module, CrossAttnUpBlock2D):
        for part in module.modules():
            yield from _inner_convolution(part)


def _norm(module: nn.Module) -> Chosen:
    """Layer and group normalisation."""
    if isinstance(module, Norm) and module.weight is not None:
        yield module, "norm"


def _bias(module: nn.Module) -> Chosen:
    """Every layer that has a bias."""
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        yield module, "matrix"
    elif isinstance(module, Norm) and module.bias is not None:
        yield module, "norm"


def _vocabulary(module: nn.Module) -> Chosen:
    """The token embeddings: the input of the text encoder."""
    if isinstance(module, CLIPTextEmbeddings):
        yield module.token_embedding, "output"


def _text_output(module: nn.Module) -> Chosen:
    """The text encoder's output: the prompt embeddings."""
    if isinstance(module, CLIPTextModel):
        yield module.final_layer_norm, "output"


def _latent_input(module: nn.Module) -> Chosen:
    """The UNet's first convolution: the features of the noisy latents."""
    if isinstance(module, UNet2DConditionModel):
        yield module.conv_in, "output"


Selector = Callable[[nn.Module], Chosen]

KINDS: dict[str, Selector] = {
    "attention": _attention,
    "attention_kv": _attention_kv,
    "cross_attention_kv": _cross_attention_kv,
    "text_attention": _text_attention,
    "feed_forward": _feed_forward,
    "feed_forward_out": _feed_forward_out,
    "linear": _linear,
    "up_convolution": _up_convolution,
    "inner_convolution": _inner_convolution,
    "convolution": _convolution,
    "norm": _norm,
    "bias": _bias,
    "vocabulary": _vocabulary,
    "text_output": _text_output,
    "latent_input": _latent_input,
}

CHOICES = (
    "attention", "attention_kv", "cross_attention_kv", "text_attention", "feed_forward", "feed_forward_out",
    "up_convolution", "inner_convolution", "convolution",
)  # fmt: skip
"""The kinds of layers that a recipe, or a base's folder, may choose."""

MATRICES = ("attention", "feed_forward", "convolution")
"""The kinds that together contain every layer of CHOICES."""


def _branch_ends(module: nn.Module) -> Iterator[nn.Module]:
    """The last matrix of an attention or feed-forward branch, whose output joins the residual stream."""
    if isinstance(module, Attention) and module.to_out is not None:
        yield module.to_out[0]
    elif isinstance(module, FeedForward):
        yield module.net[2]
    elif isinstance(module, CLIPAttention):
        yield module.out_proj
    elif isinstance(module, CLIPMLP):
        yield module.fc2


def _selector(kind: str) -> Selector:
    if kind not in KINDS:
        raise StudioError(f"There are no target modules {kind!r}. Choose from {', '.join(KINDS)}.")
    return KINDS[kind]
