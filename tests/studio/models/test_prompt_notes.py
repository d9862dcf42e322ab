"""What a note tells of a text that is read as it stands."""

import pytest

from studio.models.prompt_notes import notes_of
from studio.models.prompt_weights import PromptSyntax

PLAIN = "The prompt has weights, BREAK or escapes as in A1111"


@pytest.mark.parametrize(
    ("text", "syntax", "notes"),
    [
        ("a (cat) [1:2:3", "plain", []),
        ("a (cat:1.3)", "plain", [PLAIN]),
        ("a ((cat))", "plain", [PLAIN]),
        ("a [cat]", "plain", [PLAIN]),
        ("a cat BREAK a dog", "plain", [PLAIN]),
        (r"a \(cat\)", "plain", [PLAIN]),
        ("a (cat:1.3) ((cat)) [cat] BREAK", "a1111", []),
        ("a [cat:dog:0.5]", "a1111", ["The prompt has [cat:dog:0.5]: prompt editing and AND"]),
        ("a [cat|dog]", "a1111", ["The prompt has [cat|dog]: prompt editing and AND"]),
        ("a cat AND a dog", "a1111", ["The prompt has AND: prompt editing and AND of A1111 are not applied"]),
        ("a cat and a DANDY dog", "a1111", []),
        ("a <rex>, <milo> and <dog", "plain", ["The prompt has <milo>, <dog, which is no name here"]),
    ],
)
def test_notes(text: str, syntax: PromptSyntax, notes: list[str]):
    told = notes_of(text, syntax, ["rex"], "The prompt", "has", "--prompt-syntax a1111")
    assert len(told) == len(notes)
    assert all(found.startswith(note) for found, note in zip(told, notes, strict=True))
