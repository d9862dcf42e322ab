"""A1111's prompt syntax: weights of words, BREAK, and escapes."""

import re
from typing import Literal

PromptSyntax = Literal["plain", "a1111"]
Section = list[tuple[str, float]]
"""A stretch of a prompt that begins a window of its own: texts with their weights."""

UP, DOWN = 1.1, 1 / 1.1
"""The weights of (…) and of […]."""
_TOKEN = re.compile(r"\\[\\()\[\]]|\(|\[|:\s*([+-]?\d*\.?\d+)\s*\)|\)|\]|[^\\()\[\]:]+|:|\\")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_USED = re.compile(r"\([^()]*:\s*[+-]?\d*\.?\d+\s*\)|\(\([^()]+\)\)|\[[^\[\]]+\]|\bBREAK\b|\\[()\[\]]")


def sections_of(prompt: str, syntax: PromptSyntax) -> list[Section]:
    """The prompt as sections; a plain one is a single text of weight 1.

    In A1111's syntax (a cat) weighs 1.1, [a cat] 1 / 1.1, (a cat:1.3) 1.3, nested ones multiply, a backslash before a
    bracket writes it, and BREAK begins another section. Brackets that are not closed count to the end. Source: the
    documentation of AUTOMATIC1111's web UI, "Attention/emphasis".
    """
    if syntax == "plain":
        return [[(prompt, 1.0)]]
    texts: list[tuple[str, float]] = []
    round_, square = [], []
    for match in _TOKEN.finditer(prompt):
        text, weight = match[0], match[1]
        if text.startswith("\\") and len(text) == 2:
            texts.append((text[1], 1.0))
        elif text == "(":
            round_.append(len(texts))
        elif text == "[":
            square.append(len(texts))
        elif weight is not None and round_:
            texts = _scaled(texts, round_.pop(), float(weight))
        elif text == ")" and round_:
            texts = _scaled(texts, round_.pop(), UP)
        elif text == "]" and square:
            texts = _scaled(texts, square.pop(), DOWN)
        else:
            texts.append((text, 1.0))
    for start in round_:
        texts = _scaled(texts, start, UP)
    for start in square:
        texts = _scaled(texts, start, DOWN)
    return _broken(texts)


def uses_syntax(prompt: str) -> bool:
    """Whether a prompt looks as if it were written in A1111's syntax: it has a weight, ((…)), […], BREAK or an
    escape."""
    return bool(_USED.search(prompt))


def _scaled(texts: Section, start: int, factor: float) -> Section:
    return [*texts[:start], *((text, weight * factor) for text, weight in texts[start:])]


def _broken(texts: Section) -> list[Section]:
    """The texts in sections, with neighbours of one weight joined."""
    sections: list[Section] = [[]]
    for text, weight in texts:
        for index, part in enumerate(_BREAK.split(text)):
            if index:
                sections.append([])
            own = sections[-1]
            if part and own and own[-1][1] == weight:
                own[-1] = (own[-1][0] + part, weight)
            elif part:
                own.append((part, weight))
    return sections
