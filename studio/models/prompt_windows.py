"""Prompts longer than the text encoder reads, in several windows: each is encoded by itself, and the context of
cross-attention is all of them, as in A1111, ComfyUI and compel.
"""

from collections.abc import Callable, Sequence
from typing import Any

from concepts.errors import StudioError
from studio.models.prompt_weights import Section

MAX_WINDOWS = 8
Window = list[tuple[int, float]]
"""Token ids with their weights, without start and end."""


def longest_prompt(tokenizer: Any) -> int:
    """How many tokens a prompt may have."""
    return MAX_WINDOWS * (tokenizer.model_max_length - 2)


def windows_of(
    tokenizer: Any, sections: Sequence[Section], written: Callable[[str], str], what: str = "The prompt"
) -> list[Window]:
    """A prompt's windows; one empty window for an empty prompt.

    A window ends between words, so that no name is cut, and where a section ends; `written` gives a text as the
    tokenizer reads it, with all pieces of a concept's token. Raises StudioError, which names the prompt by `what`, for
    more than MAX_WINDOWS windows.
    """
    room, windows = tokenizer.model_max_length - 2, list[Window]()
    for section in sections:
        windows += _packed([word for part in section for word in _words(tokenizer, *part, written)], room)
    if len(windows) > MAX_WINDOWS:
        count = sum(map(len, windows))
        begin = "".join(text for section in sections for text, _ in section)[:60]
        raise StudioError(f"{what} has {count} tokens, more than {longest_prompt(tokenizer)}. Shorten it: {begin}…")
    return windows


def _words(tokenizer: Any, text: str, weight: float, written: Callable[[str], str]) -> list[Window]:
    """The words of a text; its single tokens for a tokenizer whose tokens do not end with the words."""
    whole = _ids(tokenizer, written(text))
    words = [_ids(tokenizer, written(word)) for word in text.split()]
    if [token for word in words for token in word] != whole:
        words = [[token] for token in whole]
    return [[(token, weight) for token in word] for word in words]


def _packed(words: Sequence[Window], room: int) -> list[Window]:
    windows: list[Window] = [[]]
    for word in words:
        if windows[-1] and len(windows[-1]) + len(word) > room:
            windows.append([])
        windows[-1] = [*windows[-1], *word]
    return [window[start : start + room] for window in windows for start in range(0, max(1, len(window)), room)]


def framed(tokenizer: Any, windows: Sequence[Window], count: int) -> tuple[list[int], list[float]]:
    """`count` windows in a row, each with start, end and padding, as token ids and as weights; those beyond the
    prompt's are an empty prompt's.
    """
    empty = tokenizer("", padding="max_length", truncation=True).input_ids
    start, end, padding = empty[0], empty[1], empty[2:]
    ids, weights = list[int](), list[float]()
    for window in [*windows, *[Window()] * (count - len(windows))]:
        ids += [start, *(token for token, _ in window), end, *padding[len(window) :]]
        weights += [1.0, *(weight for _, weight in window), *[1.0] * (len(empty) - 1 - len(window))]
    return ids, weights


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False).input_ids
