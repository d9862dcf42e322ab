"""Captions of training pictures."""

import re

import torch

from training.config.recipe import Recipe
from training.data.dataset import Sample


def caption_of(
    sample: Sample, template: str, token: str, class_word: str, recipe: Recipe, generator: torch.Generator
) -> str:
    """The picture's own caption where the recipe uses caption files and it has one, else the template."""
    own = sample.caption if recipe.captions == "files" else None
    text = template.replace("{}", token) if own is None else named(own, token, class_word)
    return _shuffled(text, generator) if recipe.shuffle_caption else text


def named(caption: str, token: str, class_word: str) -> str:
    """A caption with the concept's token: unchanged if it has it, else replacing {} or the class word, or prepended."""
    caption, class_word = " ".join(caption.split()), " ".join(class_word.split())
    if token.lower() in caption.lower():
        return caption
    if "{}" in caption:
        return caption.replace("{}", token)
    replaced, count = re.subn(rf"\b{re.escape(class_word)}\b", lambda _: token, caption, count=1, flags=re.IGNORECASE)
    return replaced if count else f"{token}, {caption}" if caption else token


def _shuffled(caption: str, generator: torch.Generator) -> str:
    parts = [part.strip() for part in caption.split(",")]
    return ", ".join(parts[i] for i in torch.randperm(len(parts), generator=generator).tolist())
