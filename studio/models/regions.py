"""Regions of a picture, each with its own prompt in cross-attention."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from weakref import WeakKeyDictionary

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from concepts.errors import StudioError


@dataclass(frozen=True)
class Region:
    """A box in units of the picture's height and width, 0 to 1, and the prompt inside it."""

    prompt: str
    top: float
    left: float
    bottom: float
    right: float

    def __post_init__(self) -> None:
        if not (0 <= self.top < self.bottom <= 1 and 0 <= self.left < self.right <= 1):
            box = f"{self.top},{self.left},{self.bottom},{self.right}"
            raise StudioError(
                f"Region {box} is invalid. Give top,left,bottom,right with top < bottom and left < right, inside "
                "the image."
            )

    def covers(self, rows: int, columns: int) -> Tensor:
        """Which cells of a rows x columns grid have their centre in the box, (rows, columns) bool."""
        y = (torch.arange(rows) + 0.5) / rows
        x = (torch.arange(columns) + 0.5) / columns
        return ((y >= self.top) & (y < self.bottom))[:, None] & ((x >= self.left) & (x < self.right))[None]


def grid(positions: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of the attention positions of a picture that is `aspect` times as wide as it is high."""
    rows = round(sqrt(positions / aspect))
    return rows, positions // rows


def crop(picture: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """The crop of a picture to a box, (top, left, bottom, right) in units of its height and width."""
    top, left, bottom, right = box
    rows, columns = (top * picture.height, bottom * picture.height), (left * picture.width, right * picture.width)
    return picture.crop((round(columns[0]), round(rows[0]), round(columns[1]), round(rows[1])))


@dataclass(frozen=True, eq=False)
class Appended:
    """Keys or values that a concept appends to those of a prompt: how many, and the concept's tokens."""

    count: int
    tokens: tuple[str, ...]


APPENDED: WeakKeyDictionary[nn.Module, list[Appended]] = WeakKeyDictionary()
"""What the key and value projections of cross-attention append at present, in order."""


class RegionProcessor(AttnProcessor2_0):
    """Attention in which each position attends to the tokens of its regions, or to the prompt's outside all of them.

    The context holds the prompt's tokens, then each region's, the same number each: (batch, n × (1 + regions), d).
    What a concept appends is seen where its token is: in the regions whose prompts have it, else outside all regions.
    `aspect` is the picture's width by its height.
    """

    def __init__(self, regions: Sequence[Region], aspect: float = 1.0):
        super().__init__()
        self.regions, self.aspect = tuple(regions), aspect

    def mask(self, positions: int, tokens: int, appended: Sequence[Appended] = ()) -> Tensor:
        """The attention bias: 0 where a position attends to a token and -inf elsewhere, (1, positions, tokens + n)
        for n appended ones.
        """
        cells = grid(positions, self.aspect)
        inside = torch.stack([region.covers(*cells).flatten() for region in self.regions])
        attends = torch.cat([~inside.any(0, keepdim=True), inside]).T
        visible = attends.repeat_interleave(tokens // (1 + len(self.regions)), 1)
        for rows in appended:
            prompts = [region.prompt.lower() for region in self.regions]
            own = [i for i, prompt in enumerate(prompts, 1) if any(t.lower() in prompt for t in rows.tokens)]
            seen = attends[:, own or [0]].any(1, keepdim=True)
            visible = torch.cat([visible, seen.expand(-1, rows.count)], 1)
        return torch.zeros(visible.shape).masked_fill(~visible, float("-inf"))[None]

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
        mask = self.mask(positions, tokens, APPENDED.get(attn.to_k, [])).to(hidden_states)
        # Not diffusers' own, which takes no mask that is longer than the context
        query, key, value = (
            project(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for project, states in (
                (attn.to_q, hidden_states),
                (attn.to_k, encoder_hidden_states),
                (attn.to_v, encoder_hidden_states),
            )
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype))
        return attn.to_out[0](attended.transpose(1, 2).flatten(2))


@contextmanager
def in_regions(unet: UNet2DConditionModel, regions: Sequence[Region], aspect: float = 1.0) -> Iterator[None]:
    """While open, the UNet's cross-attention attends by region; without regions nothing changes."""
    before = unet.attn_processors
    if regions:
        unet.set_attn_processor(RegionProcessor(regions, aspect))
    try:
        yield
    finally:
        unet.set_attn_processor(before)
