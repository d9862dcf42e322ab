"""A made-up other concept, so that a concept learns to keep quiet where another one is named.

Learned words lie where no ordinary word does, and those of one class near one another (their ways from the class word
had a cosine of 0.8). Layers that were told of ordinary words alone answer to all of them, and of two such concepts one
takes the other's place.
"""

import torch
from torch.nn import functional as F

from studio.models.token_embeddings import TextEncoders, load_tokens, remove_tokens, vectors_by_part

RANDOM_TOKEN = "<~>"
"""How prompts name the other concept; no concept can have this name."""


def add_random_token(text_encoders: TextEncoders, token: str) -> None:
    """Make the stranger's word known, with as many vectors as `token` has; `remove_random_token` takes it out again."""
    load_tokens(text_encoders, RANDOM_TOKEN, vectors_by_part(text_encoders, token))
    for vectors in vectors_by_part(text_encoders, RANDOM_TOKEN).values():
        vectors.requires_grad_(False)


def remove_random_token(text_encoders: TextEncoders) -> None:
    """Take the stranger's word out."""
    remove_tokens(text_encoders, RANDOM_TOKEN)


@torch.no_grad()
def randomize_random_token(
    text_encoders: TextEncoders, token: str, class_word: str, generator: torch.Generator
) -> None:
    """Move the stranger to 0.5 to 1.5 times as far from the class word as `token` has come, in any direction."""
    own, strange = (vectors_by_part(text_encoders, name) for name in (token, RANDOM_TOKEN))
    for part, (tokenizer, encoder) in text_encoders.items():
        ids = torch.tensor(tokenizer.encode(class_word, add_special_tokens=False), device=encoder.device)
        start = encoder.get_input_embeddings()(ids).float().mean(0)
        far = (own[part] - start).norm(dim=-1, keepdim=True)
        factor = 0.5 + torch.rand(far.shape, generator=generator)
        direction = F.normalize(torch.randn(own[part].shape, generator=generator), dim=-1)
        strange[part].copy_(start + far * (factor * direction).to(far.device))
