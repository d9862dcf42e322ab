"""Encodes prompts to the embeddings that the UNet takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import lcm
from typing import Any

import torch
from torch import Tensor

from studio.models.prompt_weights import PromptSyntax, sections_of
from studio.models.prompt_windows import framed, windows_of
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

    def lengthened(self, times: int) -> "PromptEmbeds":
        """The context `times` times in a row, which attention reads as it reads the context itself."""
        return PromptEmbeds(self.context.repeat(1, times, 1), self.pooled)

    def with_windows(self, padding: "PromptEmbeds", count: int) -> "PromptEmbeds":
        """The context followed by `padding`'s, one empty prompt's (1, tokens, d), so that it has `count` windows."""
        missing = count - self.context.shape[1] // padding.context.shape[1]
        filler = padding.context.expand(len(self.context), -1, -1)
        return PromptEmbeds(torch.cat([self.context, *[filler] * missing], 1), self.pooled)

    def zeros(self) -> "PromptEmbeds":
        """Zeros of the same shape."""
        return PromptEmbeds(
            torch.zeros_like(self.context), None if self.pooled is None else torch.zeros_like(self.pooled)
        )


def matched(rows: PromptEmbeds, count: int, unwanted: PromptEmbeds) -> tuple[PromptEmbeds, PromptEmbeds]:
    """Prompts, every `count` of them as one row by `concat`, and negative prompts (n, tokens, d) of the same length.

    Contexts of other lengths, as windows of long prompts make them, are repeated as a whole, each prompt's of a row to
    the same length, so that a region that reads its part of a row reads all of the negative prompt.
    """
    own, other = rows.context.shape[1], unwanted.context.shape[1]
    length = lcm(own, other)
    return rows.lengthened(length // own).concat(count), unwanted.lengthened(count * length // other)


def joined(rows: Sequence[PromptEmbeds]) -> PromptEmbeds:
    """The rows of all, concatenated; their contexts have one length."""
    pooled = [row.pooled for row in rows if row.pooled is not None]
    return PromptEmbeds(torch.cat([row.context for row in rows]), torch.cat(pooled) if pooled else None)


def token_ids(
    tokenizer_and_encoder: tuple[Any, Any], prompts: Sequence[str], layer: int = 0, syntax: PromptSyntax = "plain"
) -> Tensor:
    """Prompts as padded token ids (n, windows × length) for this layer, in as many windows of the tokenizer's maximum
    length as the longest needs. StudioError for a prompt that is longer than `prompt_windows` allows.
    """
    return _ids_and_weights(tokenizer_and_encoder, prompts, layer, syntax)[0]


def _ids_and_weights(
    tokenizer_and_encoder: tuple[Any, Any],
    prompts: Sequence[str],
    layer: int,
    syntax: PromptSyntax,
    what: str = "The prompt",
) -> tuple[Tensor, Tensor]:
    """`token_ids`, and the weight of each token, of the same shape."""
    tokenizer, encoder = tokenizer_and_encoder
    written = partial(expand_tokens, encoder, layer=layer)
    windows = [windows_of(tokenizer, sections_of(prompt, syntax), written, what) for prompt in prompts]
    count = max(map(len, windows))
    rows = [framed(tokenizer, own, count) for own in windows]
    ids, weights = (torch.tensor([row[index] for row in rows], device=encoder.device) for index in (0, 1))
    return ids, weights


def positions_of(encoder: tuple[Any, Any], ids: Tensor, tokens: Sequence[str]) -> Tensor:
    """Where token ids (n, length) are those of a concept's tokens, bool."""
    own = set(token_ids(encoder, tokens).flatten().tolist()) - set(token_ids(encoder, [""]).flatten().tolist())
    return torch.isin(ids, torch.tensor([*own], device=ids.device))


def encode(
    text_encoders: TextEncoders, prompts: Sequence[str], syntax: PromptSyntax = "plain", what: str = "The prompt"
) -> PromptEmbeds:
    """One text encoder's last hidden states; for SDXL's two, both's penultimate hidden states concatenated, and the
    second's pooled, projected embeddings (Podell et al., 2023, section 2.1), those of the first window. The windows of
    a long prompt are encoded by themselves, and follow one another in the context. Weights scale the difference of
    their tokens' hidden states from those of the empty prompt, as in ComfyUI.

    StudioError, which names the prompts by `what`, for one that is too long.

    Where a token has vectors by layer, the context is by layer too (`studio.models.layerwise_context`), and the pooled
    embeddings are the layers' mean.
    """
    layers = max(layers_of(encoder) for _, encoder in text_encoders.values())
    encoded = layers if layers > 1 and _differ_by_layer(text_encoders, prompts, syntax) else 1
    contexts, pooled = [], None
    for index, (tokenizer, encoder) in enumerate(text_encoders.values(), 1):
        parts = [_ids_and_weights((tokenizer, encoder), prompts, layer, syntax, what) for layer in range(encoded)]
        ids, weights = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        windows = ids.shape[1] // tokenizer.model_max_length
        output = encoder(_by_window(ids, windows), output_hidden_states=len(text_encoders) > 1)
        states = _states(output, len(text_encoders))
        if bool((weights != 1).any()):
            nothing = token_ids((tokenizer, encoder), [""] * len(prompts))
            empty = _states(encoder(nothing, output_hidden_states=len(text_encoders) > 1), len(text_encoders))
            share = _by_window(weights, windows)[..., None].to(states.dtype)
            states = torch.lerp(empty.repeat(windows * encoded, 1, 1), states, share)
        contexts.append(_in_a_row(states, windows))
        if index == len(text_encoders) > 1:
            pooled = output.text_embeds.unflatten(0, (windows, encoded, -1))[0].mean(0)
    return PromptEmbeds(_by_layer(torch.cat(contexts, -1), encoded, layers), pooled)


def _states(output: Any, encoders: int) -> Tensor:
    """The hidden states (n, length, d) that the context takes of an encoder, the only one or one of two."""
    return output.last_hidden_state if encoders == 1 else output.hidden_states[-2]


def _by_window(rows: Tensor, windows: int) -> Tensor:
    """Rows (n, windows × length) as (windows × n, length): the first windows of all rows, then the second ones, so that
    each window of a batch has the rows in their order.
    """
    return rows.unflatten(1, (windows, -1)).transpose(0, 1).flatten(0, 1)


def _in_a_row(contexts: Tensor, windows: int) -> Tensor:
    """Contexts of windows (windows × n, length, d) as (n, windows × length, d)."""
    return contexts.unflatten(0, (windows, -1)).transpose(0, 1).flatten(1, 2)


def _differ_by_layer(text_encoders: TextEncoders, prompts: Sequence[str], syntax: PromptSyntax) -> bool:
    """Whether any of the prompts has a token by layer, whose ids differ between layers."""
    return any(
        not torch.equal(token_ids(pair, prompts, 0, syntax), token_ids(pair, prompts, 1, syntax))
        for pair in text_encoders.values()
    )


def _by_layer(contexts: Tensor, encoded: int, layers: int) -> Tensor:
    """Contexts (encoded × n, tokens, d), layer by layer, as (n, tokens, layers × d); a single one is repeated."""
    if layers == 1:
        return contexts
    if encoded == 1:
        return contexts.repeat(1, 1, layers)
    return contexts.unflatten(0, (encoded, -1)).permute(1, 2, 0, 3).flatten(2)
