"""Prompts as a UNet reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from studio.tokens import Readers, expand_tokens


@dataclass(frozen=True)
class Encoded:
    """Encoded prompts: what cross-attention reads, (n, tokens, d), and SDXL's summary of each, (n, e)."""

    context: Tensor
    pooled: Tensor | None = None

    def side_by_side(self, count: int) -> "Encoded":
        """Every `count` prompts as one row: their contexts one after the other, and the first one's summary."""
        context = self.context.unflatten(0, (-1, count)).flatten(1, 2)
        return Encoded(context, None if self.pooled is None else self.pooled[::count])

    def repeated(self, count: int) -> "Encoded":
        """A single prompt for each of `count` rows."""
        pooled = None if self.pooled is None else self.pooled.repeat(count, 1)
        return Encoded(self.context.repeat(count, 1, 1), pooled)

    def as_wide_as(self, other: "Encoded") -> "Encoded":
        """The context as often in every row as in another's, so that both have as many tokens."""
        return Encoded(self.context.repeat(1, other.context.shape[1] // self.context.shape[1], 1), self.pooled)

    def zeros(self) -> "Encoded":
        """Nothing at all, of the same shape."""
        return Encoded(torch.zeros_like(self.context), None if self.pooled is None else torch.zeros_like(self.pooled))


def joined(rows: Sequence[Encoded]) -> Encoded:
    """The prompts of all, one after the other."""
    pooled = [row.pooled for row in rows if row.pooled is not None]
    return Encoded(torch.cat([row.context for row in rows]), torch.cat(pooled) if pooled else None)


def token_ids(reader: tuple[Any, Any], prompts: Sequence[str]) -> Tensor:
    """Prompts as padded token ids (n, tokens); what is beyond the tokenizer's length is cut off."""
    tokenizer, encoder = reader
    texts = [expand_tokens(encoder, prompt) for prompt in prompts]
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids.to(encoder.device)


def encode(readers: Readers, prompts: Sequence[str]) -> Encoded:
    """One text encoder's last hidden states; of two, as SDXL has them, both's last but one side by side, and the
    second's projected summary (Podell et al., 2023, section 2.1).
    """
    outputs = [
        encoder(token_ids((tokenizer, encoder), prompts), output_hidden_states=len(readers) > 1)
        for tokenizer, encoder in readers.values()
    ]
    if len(outputs) == 1:
        return Encoded(outputs[0].last_hidden_state)
    return Encoded(torch.cat([output.hidden_states[-2] for output in outputs], -1), outputs[-1].text_embeds)
