"""Cross-attention by region: each position of an image reads the prompt of its region."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional as F

from studio.models.regions.layout import RegionLayout


@dataclass(frozen=True, eq=False)
class Appended:
    """Keys or values that a concept appends to those of a prompt: how many, and the concept's tokens."""

    count: int
    tokens: tuple[str, ...]


APPENDED: WeakKeyDictionary[nn.Module, list[Appended]] = WeakKeyDictionary()
"""What the key and value projections of cross-attention append at present, in order."""


class RegionProcessor(AttnProcessor2_0):
    """Attention in which each position attends to the tokens of its regions, or outside all of them to the prompt's
    without the names of concepts whose regions were found.

    The context holds the prompt's tokens, then each region's, the same number each: (batch, t × (1 + regions), d). The
    weight of a prompt's tokens at a position is multiplied by how far its region covers the position. What a concept
    appends is seen where its token is: in the regions whose prompts have it, else outside all regions.
    """

    def __init__(self, layout: RegionLayout):
        super().__init__()
        self.layout = layout

    def bias(self, positions: int, tokens: int, appended: Sequence[Appended] = ()) -> Tensor:
        """What is added to the attention's logits: the logarithm of the weight, -inf where a position does not attend
        to a token; (n or 1, positions, tokens + m) for m appended ones.
        """
        reading = self.layout.reading(positions).permute(1, 2, 0)
        each = tokens // reading.shape[-1]
        whole = reading[..., :1] * self.layout.read_outside(each)[:, None]
        inside = reading[..., 1:].repeat_interleave(each, -1).expand(len(whole), -1, -1)
        weights = torch.cat([whole, inside], -1)
        for rows in appended:
            prompts = [region.prompt.lower() for region in self.layout.regions]
            own = [i for i, prompt in enumerate(prompts, 1) if any(t.lower() in prompt for t in rows.tokens)]
            seen = reading[..., own or [0]].amax(-1, keepdim=True)
            weights = torch.cat([weights, seen.expand(-1, -1, rows.count)], -1)
        return weights.log()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """(batch, positions, d) to the same shape; self-attention is unchanged."""
        if encoder_hidden_states is None:
            return super().__call__(attn, hidden_states, None, attention_mask, temb)
        positions, tokens = hidden_states.shape[1], encoder_hidden_states.shape[1]
        assert attn.to_k, "cross-attention has keys"
        assert attn.to_v, "cross-attention has values"
        assert attn.to_out, "cross-attention has an output projection"
        bias = self.bias(positions, tokens, APPENDED.get(attn.to_k, [])).to(hidden_states)
        bias = bias.repeat(len(hidden_states) // len(bias) if len(bias) > 1 else 1, 1, 1)[:, None]
        # Not diffusers' own, which takes no mask that is longer than the context
        query, key, value = (
            project(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for project, states in (
                (attn.to_q, hidden_states),
                (attn.to_k, encoder_hidden_states),
                (attn.to_v, encoder_hidden_states),
            )
        )
        if self.layout.reads_maps(positions):
            self._record(query, key, tokens // (1 + len(self.layout.regions)))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return attn.to_out[0](attended.transpose(1, 2).flatten(2))

    def _record(self, query: Tensor, key: Tensor, tokens: int) -> None:
        """Gives the layout how far each position attends to the first prompt's tokens, mean over heads, of the images'
        rows, which come after those of guidance's negative prompts.
        """
        n = self.layout.count
        scores = query[-n:] @ key[-n:, :, :tokens].mT * query.shape[-1] ** -0.5
        self.layout.add(scores.float().softmax(-1).mean(1))


@contextmanager
def in_regions(unet: UNet2DConditionModel, layout: RegionLayout) -> Iterator[None]:
    """While open, the UNet's cross-attention attends by region; without regions nothing changes."""
    before = unet.attn_processors
    if layout.regions:
        unet.set_attn_processor(RegionProcessor(layout))
    try:
        yield
    finally:
        unet.set_attn_processor(before)
