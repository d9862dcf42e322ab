"""The random token: a stand-in for other concepts in the preservation loss.

Trained token embeddings lie away from those of ordinary words, and those of one class near one another (their
differences from the class word had a cosine of 0.8). Layers whose outputs are preserved only on ordinary words respond
to every trained token, so that one of two merged concepts replaces the other.
"""

import torch
from torch.nn import functional as F

from studio.models.token_embeddings import TextEncoders, load_tokens, remove_tokens, vectors_by_part

RANDOM_TOKEN = "<~>"
"""The token in prompts; no concept can have this name."""


def add_random_token(text_encoders: TextEncoders, token: str) -> None:
    """Add the random token, with as many vectors as `token` has; `remove_random_token` removes it."""
    load_tokens(text_encoders, RANDOM_TOKEN, vectors_by_part(text_encoders, token))
    for vectors in vectors_by_part(text_encoders, RANDOM_TOKEN).values():
        vectors.requires_grad_(False)


def remove_random_token(text_encoders: TextEncoders) -> None:
    """Remove the random token."""
    remove_tokens(text_encoders, RANDOM_TOKEN)


@torch.no_grad()
def randomize_random_token(
    text_encoders: TextEncoders, token: str, class_word: str, generator: torch.Generator
) -> None:
    """Set the random token's vectors at 0.5 to 1.5 times `token`'s distance from the class word, in any direction."""
    own, random = (vectors_by_part(text_encoders, name) for name in (token, RANDOM_TOKEN))
    for part, (tokenizer, encoder) in text_encoders.items():
        ids = torch.tensor(tokenizer.encode(class_word, add_special_tokens=False), device=encoder.device)
        start = encoder.get_input_embeddings()(ids).float().mean(0)
        distance = (own[part] - start).norm(dim=-1, keepdim=True)
        factor = 0.5 + torch.rand(distance.shape, generator=generator)
        direction = F.normalize(torch.randn(own[part].shape, generator=generator), dim=-1)
        random[part].copy_(start + distance * (factor * direction).to(distance.device))
