"""Which layers of a model are adapted.

A site is one Linear or Conv2d layer. Its frozen weight is seen as a matrix (out, in); a convolution's is
flattened to (out, in * kernel height * kernel width).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPMLP, CLIPAttention

from studio.errors import StudioError

Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class Site:
    """A layer that can be adapted, and where it hangs in the model.

    `name` is the layer's path below its part, as in "unet.mid_block.attentions.0.….attn1.to_q"; `parent` and
    `attribute` say where injection puts the adapted layer.
    """

    name: str
    part: str
    module: Layer
    parent: nn.Module
    attribute: str

    @property
    def weight(self) -> Tensor:
        """The frozen weight as a matrix (out, in): a view, not a copy."""
        return self.module.weight.flatten(1)

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias (out,), if the layer has one."""
        return self.module.bias


def find_sites(parts: Mapping[str, nn.Module], kinds: Iterable[str] = ("attention",)) -> dict[str, Site]:
    """The sites of the given kinds (keys of KINDS) in a model's parts, by name, in the model's own order.

    `parts` names the modules to search, as in {"unet": unet, "text_encoder": text_encoder}. Raises
    StudioError for a kind that does not exist or when nothing was found.
    """
    kinds = list(kinds)
    selectors = [_selector(kind) for kind in kinds]
    sites = {site.name: site for part, root in parts.items() for site in _sites_of(part, root, selectors)}
    if not sites:
        raise StudioError(
            f"No {' or '.join(kinds)} layers were found in {', '.join(parts)}: choose other kinds of layers."
        )
    return sites


def _sites_of(part: str, root: nn.Module, selectors: "list[Selector]") -> Iterator[Site]:
    chosen = {id(layer) for module in root.modules() for select in selectors for layer in select(module)}
    for path, parent in root.named_modules(prefix=part):
        for attribute, layer in parent.named_children():
            if id(layer) in chosen and isinstance(layer, Layer):
                yield Site(f"{path}.{attribute}", part, layer, parent, attribute)


def _attention(module: nn.Module) -> Iterator[nn.Module]:
    """Query, key, value and output projections of self- and cross-attention."""
    if isinstance(module, Attention):
        yield from (layer for layer in (module.to_q, module.to_k, module.to_v) if layer is not None)
        yield from module.to_out[:1] if module.to_out is not None else ()
    elif isinstance(module, CLIPAttention):
        yield from (module.q_proj, module.k_proj, module.v_proj, module.out_proj)


def _cross_attention_kv(module: nn.Module) -> Iterator[nn.Module]:
    """Key and value projections of cross-attention: the layers that read the prompt."""
    if isinstance(module, Attention) and module.is_cross_attention:
        yield from (layer for layer in (module.to_k, module.to_v) if layer is not None)


def _feed_forward(module: nn.Module) -> Iterator[nn.Module]:
    """The two linear layers of a transformer block's feed-forward network."""
    if isinstance(module, FeedForward | CLIPMLP):
        yield from (layer for layer in module.modules() if isinstance(layer, nn.Linear))


def _convolution(module: nn.Module) -> Iterator[nn.Module]:
    """Convolutions that are one matrix, which grouped ones are not."""
    if isinstance(module, nn.Conv2d) and module.groups == 1:
        yield module


Selector = Callable[[nn.Module], Iterator[nn.Module]]

KINDS: dict[str, Selector] = {
    "attention": _attention,
    "cross_attention_kv": _cross_attention_kv,
    "feed_forward": _feed_forward,
    "convolution": _convolution,
}


def _selector(kind: str) -> Selector:
    if kind not in KINDS:
        raise StudioError(f"There is no kind of layer called {kind!r}: choose from {', '.join(KINDS)}.")
    return KINDS[kind]
