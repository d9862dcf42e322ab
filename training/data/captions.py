"""Captions of training pictures."""

import re
from collections.abc import Sequence

import torch

from concepts.errors import StudioError
from studio.models.base_model import Base
from studio.models.prompt_names import with_own_name
from studio.models.prompt_notes import notes_of
from studio.models.prompt_weights import PromptSyntax
from training.config.caption_templates import CAPTIONS, PHOTO_CAPTIONS, STYLE_CAPTIONS, is_style
from training.config.recipe import Recipe
from training.data.augmentation import Example
from training.data.dataset import Sample

_COMMA = re.compile(r",(?![^()\[\]]*[)\]])")
"""A comma outside brackets, which hold what A1111 weighs together."""


def templates_of(recipe: Recipe, class_word: str) -> tuple[str, ...]:
    """The recipe's caption templates; a style's default ones where they are unset."""
    unset = recipe.templates in (CAPTIONS, PHOTO_CAPTIONS)
    return STYLE_CAPTIONS if is_style(class_word) and unset else recipe.templates


def validation_prompt_of(recipe: Recipe, class_word: str) -> str:
    """The recipe's validation prompt; for a style, a style's where it is unset."""
    unset = recipe.validation_prompt == Recipe.model_fields["validation_prompt"].default
    return STYLE_CAPTIONS[0] if is_style(class_word) and unset else recipe.validation_prompt


def caption_of(
    sample: Sample, template: str, token: str, class_word: str, recipe: Recipe, generator: torch.Generator
) -> str:
    """The picture's own caption where the recipe uses caption files and it has one, else the template."""
    own = sample.caption if recipe.captions == "files" else None
    text = template.replace("{}", token) if own is None else named(own, token, class_word)
    return _shuffled(text, recipe.prompt_syntax, generator) if recipe.shuffle_caption else text


def named(caption: str, token: str, class_word: str) -> str:
    """A caption with the concept's token: unchanged if it has it, else replacing {} or the class word, or prepended.
    Other tools' forms of the name, < rex > and <lora:rex:0.8>, are the token.

    For a style, whose captions describe the rest, "in the style of" the token is appended where it is not named.
    """
    caption, class_word = " ".join(caption.split()), " ".join(class_word.split())
    caption = with_own_name(caption, token.strip("<>"))
    if token.lower() in caption.lower():
        return caption
    if "{}" in caption:
        return caption.replace("{}", token)
    replaced, count = re.subn(rf"\b{re.escape(class_word)}\b", lambda _: token, caption, count=1, flags=re.IGNORECASE)
    if count or not caption:
        return replaced if count else token
    return f"{caption}, in the style of {token}" if is_style(class_word) else f"{token}, {caption}"


def caption_notes(captions: Sequence[str | None], name: str, recipe: Recipe) -> list[str]:
    """What of the captions, or of the templates, is read as it stands although it looks like more, each told once."""
    option = "--set prompt_syntax=a1111, on the page the prompt syntax a1111"
    used = [caption for caption in captions if caption] if recipe.captions == "files" else []
    texts = [("A caption", caption) for caption in used] + [("A caption template", text) for text in recipe.templates]
    notes = [note for what, text in texts for note in notes_of(text, recipe.prompt_syntax, [name], what, "has", option)]
    return list(dict.fromkeys(notes))


def check_lengths(base: Base, examples: Sequence[Example], recipe: Recipe) -> None:
    """Raises StudioError, naming the picture, for a caption in a file that is longer than all windows of a prompt."""
    for number, example in enumerate(examples, 1) if recipe.captions == "files" else ():
        try:
            base.token_ids([example.caption or ""], recipe.prompt_syntax)
        except StudioError as error:
            raise StudioError(f"The caption of picture {number} is too long. {error}") from error


def _shuffled(caption: str, syntax: PromptSyntax, generator: torch.Generator) -> str:
    pieces = caption.split(",") if syntax == "plain" else _COMMA.split(caption)
    parts = [piece.strip() for piece in pieces]
    return ", ".join(parts[i] for i in torch.randperm(len(parts), generator=generator).tolist())
