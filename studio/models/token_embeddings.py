"""New tokens for concepts (textual inversion): the tokenizer does not split them, and their embeddings are trained.

The text encoder's own embedding matrix is never resized or modified. While concepts have tokens, a
ConceptEmbedding replaces it: it looks up ordinary tokens there and the concepts' tokens in its own vectors. A
token with several vectors is written as several pieces, "<rex> <rex>_1", by the convention of diffusers. A token by
layer has its own vectors for every attention block; each block's prompt is written with its own pieces.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, TokenizersBackend

from concepts.errors import StudioError

TextEncoders = Mapping[str, tuple[Any, Any]]
"""Each tokenizer with its text encoder, by the text encoder's name."""


class ConceptEmbedding(nn.Module):
    """A frozen embedding (vocabulary, d) beside a float32 parameter, (n, d) or (layers, n, d), for each concept token.

    Only the concepts' vectors get gradients and belong in an optimizer; the base's rows are never modified.
    Remove the tokens before saving the text encoder: with them its state dict has other keys.
    """

    token_ids: Tensor

    def __init__(self, base: nn.Embedding):
        super().__init__()
        self.base = base
        self.tokens: list[str] = []
        self.vectors = nn.ParameterList()
        self.register_buffer("token_ids", torch.zeros(0, dtype=torch.long), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (…) to embeddings (…, d) in the base's dtype."""
        matches = ids.unsqueeze(-1) == self.token_ids
        is_concept = matches.any(-1)
        base = self.base(ids.masked_fill(is_concept, 0))
        table = torch.cat([vectors.flatten(0, -2) for vectors in self.vectors]).to(base.dtype)
        own = F.embedding(matches.int().argmax(-1), table)
        return torch.where(is_concept.unsqueeze(-1), own, base)

    def of(self, token: str) -> nn.Parameter:
        """The trained vectors, (n, d) or (layers, n, d), of a token; StudioError if there is no such token."""
        if token not in self.tokens:
            raise StudioError(f"The text encoder has no token {token}. Load its concept first.")
        return self.vectors[self.tokens.index(token)]

    @property
    def layers(self) -> int:
        """For how many layers a prompt must be encoded; 1 without tokens by layer."""
        return max(map(layer_count, self.vectors), default=1)

    def pieces(self, token: str) -> list[str]:
        """The pieces of a token for the tokenizer, one per vector, those of the first layer first."""
        return _pieces(token, self.of(token))

    def written(self, token: str, layer: int) -> list[str]:
        """The pieces that stand for a token in the prompt of one layer."""
        vectors, pieces = self.of(token), self.pieces(token)
        count = vectors.shape[-2]
        return pieces[layer * count : (layer + 1) * count] if vectors.ndim == 3 else pieces

    def assign(self, entries: dict[str, nn.Parameter], tokenizer: TokenizersBackend) -> None:
        """Set the tokens, which replace all others; the tokenizer must have their pieces."""
        self.tokens = list(entries)
        self.vectors = nn.ParameterList(entries.values())
        pieces = [piece for token in self.tokens for piece in self.pieces(token)]
        self.token_ids = torch.tensor(_ids(tokenizer, pieces), device=self.base.weight.device)

    def entries(self) -> dict[str, nn.Parameter]:
        """Each token's vectors, in the order they were added."""
        return dict(zip(self.tokens, self.vectors, strict=True))


def add_token(
    tokenizer: TokenizersBackend,
    text_encoder: PreTrainedModel,
    token: str,
    initial_word: str,
    vectors: int = 1,
    layers: int = 1,
) -> list[int]:
    """Add a token such as "<rex>", initialized with `initial_word`'s embedding; by layer, if there are several.

    Returns its ids, one per vector. A word that the tokenizer splits gives the mean of its pieces' embeddings.
    Raises StudioError for a token that exists, a word without pieces, or fewer than one vector.
    """
    pieces = tokenizer.encode(initial_word, add_special_tokens=False)
    if not pieces or vectors < 1:
        raise StudioError("A new token needs an initial word and at least one vector. Give both.")
    with torch.no_grad():
        embedding = text_encoder.get_input_embeddings()
        start = embedding(torch.tensor(pieces, device=text_encoder.device)).float().mean(0)
    repeated = start.repeat(vectors, 1)
    return load_token(tokenizer, text_encoder, token, repeated if layers == 1 else repeated.repeat(layers, 1, 1))


def load_token(tokenizer: TokenizersBackend, text_encoder: PreTrainedModel, token: str, vectors: Tensor) -> list[int]:
    """Add a token with given vectors, (n, d) or (layers, n, d), as in a concept's file; returns its ids.

    Raises StudioError for a token that exists or vectors of another width than the text encoder's.
    """
    embedding = _installed(text_encoder) or ConceptEmbedding(_plain_embedding(text_encoder))
    width = embedding.base.embedding_dim
    if vectors.ndim not in (2, 3) or vectors.shape[-1] != width or not vectors.numel():
        raise StudioError(
            f"{token} has vectors of shape {tuple(vectors.shape)}, and this text encoder needs (n, {width}) "
            f"or (layers, n, {width}). Use a concept of this base."
        )
    pieces = _pieces(token, vectors)
    if any(_is_taken(tokenizer, piece) for piece in pieces):
        raise StudioError(f"The tokenizer already has the token {token}. Choose another name.")
    trained = nn.Parameter(vectors.detach().to(embedding.base.weight.device, torch.float32, copy=True))
    tokenizer.add_tokens(pieces)
    embedding.assign({**embedding.entries(), token: trained}, tokenizer)
    text_encoder.set_input_embeddings(embedding)
    return [int(index) for index in _ids(tokenizer, pieces)]


def add_tokens(text_encoders: TextEncoders, token: str, initial_word: str, vectors: int = 1, layers: int = 1) -> None:
    """`add_token` in every text encoder; in all of them or, where it raises StudioError, in none."""
    _in_every(text_encoders, token, lambda part, pair: add_token(*pair, token, initial_word, vectors, layers))


def load_tokens(text_encoders: TextEncoders, token: str, parts: Mapping[str, Tensor]) -> None:
    """`load_token` with each text encoder's own vectors; in all or, where it raises StudioError, in none."""
    if missing := sorted(text_encoders.keys() - parts.keys()):
        raise StudioError(f"{token} has no vectors for this base's {', '.join(missing)}. Use a concept of this base.")
    _in_every(text_encoders, token, lambda part, pair: load_token(*pair, token, parts[part]))


def _in_every(text_encoders: TextEncoders, token: str, put: Callable[[str, tuple[Any, Any]], object]) -> None:
    with ExitStack() as undo:
        for part, pair in text_encoders.items():
            put(part, pair)
            undo.callback(remove_token, *pair, token)
        undo.pop_all()


def remove_tokens(text_encoders: TextEncoders, token: str) -> None:
    """`remove_token` in every text encoder."""
    for pair in text_encoders.values():
        remove_token(*pair, token)


def vectors_by_part(text_encoders: TextEncoders, token: str) -> dict[str, nn.Parameter]:
    """The vectors of a token, (n, d) or (layers, n, d), by text encoder: the parameters to train, and the tensors to
    save.
    """
    return {part: token_vectors(encoder, token) for part, (_, encoder) in text_encoders.items()}


def token_vectors(text_encoder: PreTrainedModel, token: str) -> nn.Parameter:
    """The vectors of a concept's token, (n, d) or (layers, n, d): the parameter to train and the tensor to save."""
    return _concept_embedding(text_encoder, token).of(token)


def remove_token(tokenizer: TokenizersBackend, text_encoder: PreTrainedModel, token: str) -> None:
    """Remove a token from both; after the last one, tokenizer and text encoder are in their original state.

    The ids of tokens that were added later change. Raises StudioError if there is no such token.
    """
    embedding = _concept_embedding(text_encoder, token)
    _remove_pieces(tokenizer, set(embedding.pieces(token)))
    remaining = embedding.entries()
    del remaining[token]
    embedding.assign(remaining, tokenizer)
    if not remaining:
        text_encoder.set_input_embeddings(embedding.base)


def remove_all_tokens(tokenizer: TokenizersBackend, text_encoder: PreTrainedModel) -> None:
    """Remove every concept's token: tokenizer and text encoder are in their original state."""
    embedding = _installed(text_encoder)
    for token in list(embedding.tokens) if embedding else ():
        remove_token(tokenizer, text_encoder, token)


def layer_count(vectors: Tensor) -> int:
    """The number of layers of a token's vectors, (n, d) or (layers, n, d)."""
    return len(vectors) if vectors.ndim == 3 else 1


def layers_of(text_encoder: PreTrainedModel) -> int:
    """For how many layers a prompt must be encoded; 1 without tokens by layer."""
    embedding = _installed(text_encoder)
    return embedding.layers if embedding else 1


def expand_tokens(text_encoder: PreTrainedModel, prompt: str, layer: int = 0) -> str:
    """The prompt with every concept token of several vectors written as its pieces for this layer."""
    embedding = _installed(text_encoder)
    for token in embedding.tokens if embedding else ():
        written = " ".join(embedding.written(token, layer)) if embedding else token
        prompt = re.sub(re.escape(token), lambda _, written=written: written, prompt, flags=re.IGNORECASE)
    return prompt


def _pieces(token: str, vectors: Tensor) -> list[str]:
    return [token, *(f"{token}_{index}" for index in range(1, vectors.shape[:-1].numel()))]


def _installed(text_encoder: PreTrainedModel) -> ConceptEmbedding | None:
    embedding = text_encoder.get_input_embeddings()
    return embedding if isinstance(embedding, ConceptEmbedding) else None


def _concept_embedding(text_encoder: PreTrainedModel, token: str) -> ConceptEmbedding:
    embedding = _installed(text_encoder)
    if embedding is None:
        raise StudioError(f"The text encoder has no token {token}. Load its concept first.")
    return embedding


def _plain_embedding(text_encoder: PreTrainedModel) -> nn.Embedding:
    embedding = text_encoder.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding


def _ids(tokenizer: TokenizersBackend, pieces: list[str]) -> list[int]:
    return cast(list[int], tokenizer.convert_tokens_to_ids(pieces))


def _is_taken(tokenizer: TokenizersBackend, piece: str) -> bool:
    """Whether the tokenizer knows the piece; added tokens are found in text of any case."""
    added = {existing.lower() for existing in tokenizer.get_added_vocab()}
    return piece.lower() in added or _ids(tokenizer, [piece]) != [tokenizer.unk_token_id]


def _remove_pieces(tokenizer: TokenizersBackend, pieces: set[str]) -> None:
    """Remove added tokens through the tokenizer's serialized state, since the tokenizers library has no call for it."""
    backend = tokenizer.backend_tokenizer
    description = json.loads(backend.to_str())
    description["added_tokens"] = [entry for entry in description["added_tokens"] if entry["content"] not in pieces]
    backend.__setstate__(json.dumps(description).encode())


def token_of(name: str) -> str:
    """The token of a concept in prompts."""
    return f"<{name}>"
