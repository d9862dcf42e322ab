"""What of a prompt or a caption is read as it stands, although it looks like more."""

import re
from collections.abc import Iterable

from studio.models.prompt_names import others_between_brackets
from studio.models.prompt_weights import PromptSyntax, uses_syntax

_EDITING = re.compile(r"\[[^\[\]:]*:[^\[\]]*\]|\[[^\[\]|]*\|[^\[\]]*\]|\bAND\b")


def notes_of(text: str, syntax: PromptSyntax, names: Iterable[str], what: str, has: str, option: str) -> list[str]:
    """Notes on a text, which `what` names with its verb `has`, "The prompt" with "has": A1111's syntax that is not
    applied, and what stands between < and > without being one of `names`. `option` is how its syntax is chosen.
    """
    notes = []
    if syntax == "plain" and uses_syntax(text):
        notes.append(
            f"{what} {has} weights, BREAK or escapes as in A1111, which are read as they stand. Use {option}, to apply "
            "them."
        )
    if syntax == "a1111" and (found := _EDITING.search(text)):
        notes.append(f"{what} {has} {found[0]}: prompt editing and AND of A1111 are not applied. Leave them out.")
    if others := others_between_brackets(text, names):
        notes.append(f"{what} {has} {', '.join(others)}, which is no name here and is read as it stands.")
    return notes
