"""Encodes prompts to the embeddings that the UNet takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from studio.models.token_embeddings import TextEncoders, expand_tokens, layers_of


@dataclass(frozen=True)
class PromptEmbeds:
    """Prompt embeddings: the context of cross-attention, (n, tokens, d), by layer (n, tokens, layers × d), and SDXL's
    pooled embeddings, (n, e).
    """

    context: Tensor
    pooled: Tensor | None = None

    def concat(self, count: int) -> "PromptEmbeds":
        """Every `count` prompts as one row: their contexts concatenated, and the first one's pooled embeddings."""
        context = self.context.unflatten(0, (-1, count)).flatten(1, 2)
        return PromptEmbeds(context, None if self.pooled is None else self.pooled[::count])

    def repeated(self, count: int) -> "PromptEmbeds":
        """A single prompt for each of `count` rows."""
        pooled = None if self.pooled is None else self.pooled.repeat(count, 1)
        return PromptEmbeds(self.context.repeat(count, 1, 1), pooled)

    def match_length(self, other: "PromptEmbeds") -> "PromptEmbeds":
        """The context repeated along the tokens, so that it has as many as `other`."""
        return PromptEmbeds(self.context.repeat(1, other.context.shape[1] // self.context.shape[1], 1), self.pooled)

    def zeros(self) -> "PromptEmbeds":
        """Zeros of the same shape."""
        return PromptEmbeds(
            torch.zeros_like(self.context), None if self.pooled is None else torch.zeros_like(self.pooled)
        )


def joined(rows: Sequence[PromptEmbeds]) -> PromptEmbeds:
    """The rows of all, concatenated."""
    pooled = [row.pooled for row in rows if row.pooled is not None]
    return PromptEmbeds(torch.cat([row.context for row in rows]), torch.cat(pooled) if pooled else None)


def token_ids(tokenizer_and_encoder: tuple[Any, Any], prompts: Sequence[str], layer: int = 0) -> Tensor:
    """Prompts as padded token ids (n, tokens) for this layer, truncated to the tokenizer's maximum length."""
    tokenizer, encoder = tokenizer_and_encoder
    texts = [expand_tokens(encoder, prompt, layer) for prompt in prompts]
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids.to(encoder.device)


def encode(text_encoders: TextEncoders, prompts: Sequence[str]) -> PromptEmbeds:
    """One text encoder's last hidden states; for SDXL's two, both's penultimate hidden states concatenated, and the
    second's pooled, projected embeddings (Podell et al., 2023, section 2.1).

    Where a token has vectors by layer, the context is by layer too (`studio.models.layerwise_context`), and the pooled
    embeddings are the layers' mean.
    """
    layers = max(layers_of(encoder) for _, encoder in text_encoders.values())
    encoded = layers if layers > 1 and _differ_by_layer(text_encoders, prompts) else 1
    outputs = [
        pair[1](
            torch.cat([token_ids(pair, prompts, layer) for layer in range(encoded)]),
            output_hidden_states=len(text_encoders) > 1,
        )
        for pair in text_encoders.values()
    ]
    if len(outputs) == 1:
        return PromptEmbeds(_by_layer(outputs[0].last_hidden_state, encoded, layers))
    context = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    return PromptEmbeds(
        _by_layer(context, encoded, layers), outputs[-1].text_embeds.unflatten(0, (encoded, -1)).mean(0)
    )


def _differ_by_layer(text_encoders: TextEncoders, prompts: Sequence[str]) -> bool:
    """Whether any of the prompts has a token by layer, whose ids differ between layers."""
    return any(not torch.equal(token_ids(r, prompts, 0), token_ids(r, prompts, 1)) for r in text_encoders.values())


def _by_layer(contexts: Tensor, encoded: int, layers: int) -> Tensor:
    """Contexts (encoded × n, tokens, d), layer by layer, as (n, tokens, layers × d); a single one is repeated."""
    if layers == 1:
        return contexts
    if encoded == 1:
        return contexts.repeat(1, 1, layers)
    return contexts.unflatten(0, (encoded, -1)).permute(1, 2, 0, 3).flatten(2)
