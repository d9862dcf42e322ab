"""Prompts longer than the text encoder reads, in several windows: each is encoded by itself, and the context of
cross-attention is all of them, as in A1111, ComfyUI and compel.
"""

from collections.abc import Callable, Sequence
from typing import Any

from concepts.errors import StudioError

MAX_WINDOWS = 8


def window_ids(tokenizer: Any, prompt: str, written: Callable[[str], str]) -> list[list[int]]:
    """The prompt's token ids, without start and end, for each window; one empty window for an empty prompt.

    A window ends between words, so that no name is cut; `written` gives a word as the tokenizer reads it, with all
    pieces of a concept's token. Raises StudioError for more than MAX_WINDOWS windows.
    """
    room = tokenizer.model_max_length - 2
    whole = _ids(tokenizer, written(prompt))
    if len(whole) <= room:
        return [whole]
    words = [_ids(tokenizer, written(word)) for word in prompt.split()]
    if [token for word in words for token in word] != whole:
        words = [[token] for token in whole]  # a tokenizer that does not end its tokens with the words
    windows: list[list[int]] = [[]]
    for word in words:
        if windows[-1] and len(windows[-1]) + len(word) > room:
            windows.append([])
        windows[-1] += word
    windows = [window[start : start + room] for window in windows for start in range(0, len(window), room)]
    if len(windows) > MAX_WINDOWS:
        raise StudioError(
            f"The prompt has {len(whole)} tokens, more than {MAX_WINDOWS * room}. Shorten it: {prompt[:60]}…"
        )
    return windows


def framed(tokenizer: Any, windows: Sequence[Sequence[int]], count: int) -> list[int]:
    """`count` windows in a row, each with start, end and padding; those beyond the prompt's are an empty prompt's."""
    empty = tokenizer("", padding="max_length", truncation=True).input_ids
    start, end, padding = empty[0], empty[1], empty[2:]
    rows = [[start, *window, end, *padding[len(window) :]] for window in windows]
    return [token for row in [*rows, *[empty] * (count - len(rows))] for token in row]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False).input_ids
