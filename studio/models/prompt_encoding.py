"""Prompts as a UNet reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from studio.models.token_embeddings import TextEncoders, expand_tokens, layers_of


@dataclass(frozen=True)
class PromptEmbeds:
    """PromptEmbeds prompts: what cross-attention reads, (n, tokens, d), by layer (n, tokens, layers × d), and SDXL's
    summary of each, (n, e).
    """

    context: Tensor
    pooled: Tensor | None = None

    def concat(self, count: int) -> "PromptEmbeds":
        """Every `count` prompts as one row: their contexts one after the other, and the first one's summary."""
        context = self.context.unflatten(0, (-1, count)).flatten(1, 2)
        return PromptEmbeds(context, None if self.pooled is None else self.pooled[::count])

    def repeated(self, count: int) -> "PromptEmbeds":
        """A single prompt for each of `count` rows."""
        pooled = None if self.pooled is None else self.pooled.repeat(count, 1)
        return PromptEmbeds(self.context.repeat(count, 1, 1), pooled)

    def match_length(self, other: "PromptEmbeds") -> "PromptEmbeds":
        """The context as often in every row as in another's, so that both have as many tokens."""
        return PromptEmbeds(self.context.repeat(1, other.context.shape[1] // self.context.shape[1], 1), self.pooled)

    def zeros(self) -> "PromptEmbeds":
        """Nothing at all, of the same shape."""
        return PromptEmbeds(
            torch.zeros_like(self.context), None if self.pooled is None else torch.zeros_like(self.pooled)
        )


def joined(rows: Sequence[PromptEmbeds]) -> PromptEmbeds:
    """The prompts of all, one after the other."""
    pooled = [row.pooled for row in rows if row.pooled is not None]
    return PromptEmbeds(torch.cat([row.context for row in rows]), torch.cat(pooled) if pooled else None)


def token_ids(reader: tuple[Any, Any], prompts: Sequence[str], layer: int = 0) -> Tensor:
    """Prompts as padded token ids (n, tokens), as this layer reads them; what is beyond the tokenizer's length is cut
    off.
    """
    tokenizer, encoder = reader
    texts = [expand_tokens(encoder, prompt, layer) for prompt in prompts]
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids.to(encoder.device)


def encode(text_encoders: TextEncoders, prompts: Sequence[str]) -> PromptEmbeds:
    """One text encoder's last hidden states; of two, as SDXL has them, both's last but one side by side, and the
    second's projected summary (Podell et al., 2023, section 2.1).

    Where a token is there by layer, the context is too (`studio.models.layerwise_context`), and the summary is the
    layers' mean.
    """
    layers = max(layers_of(encoder) for _, encoder in text_encoders.values())
    read = layers if layers > 1 and _differ_by_layer(text_encoders, prompts) else 1
    outputs = [
        reader[1](
            torch.cat([token_ids(reader, prompts, layer) for layer in range(read)]),
            output_hidden_states=len(text_encoders) > 1,
        )
        for reader in text_encoders.values()
    ]
    if len(outputs) == 1:
        return PromptEmbeds(_by_layer(outputs[0].last_hidden_state, read, layers))
    context = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    return PromptEmbeds(_by_layer(context, read, layers), outputs[-1].text_embeds.unflatten(0, (read, -1)).mean(0))


def _differ_by_layer(text_encoders: TextEncoders, prompts: Sequence[str]) -> bool:
    """Whether any of the prompts names a token by layer: then its ids are others for another layer."""
    return any(not torch.equal(token_ids(r, prompts, 0), token_ids(r, prompts, 1)) for r in text_encoders.values())


def _by_layer(contexts: Tensor, read: int, layers: int) -> Tensor:
    """Contexts (read × n, tokens, d) of one layer after the other as (n, tokens, layers × d); what was read once is
    repeated.
    """
    if layers == 1:
        return contexts
    if read == 1:
        return contexts.repeat(1, 1, layers)
    return contexts.unflatten(0, (read, -1)).permute(1, 2, 0, 3).flatten(2)
