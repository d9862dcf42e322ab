"""A1111's syntax: weights, BREAK and escapes."""

import pytest
import torch

from studio.models.base_model import Base, generate
from studio.models.prompt_weights import DOWN, UP, sections_of, uses_syntax
from studio.models.sampling_settings import SamplingSettings


@pytest.mark.parametrize(
    ("prompt", "sections"),
    [
        ("a cat", [[("a cat", 1.0)]]),
        ("", [[]]),
        ("(a cat)", [[("a cat", UP)]]),
        ("[a cat]", [[("a cat", DOWN)]]),
        ("((a cat))", [[("a cat", UP * UP)]]),
        ("a (red cat:1.3) here", [[("a ", 1.0), ("red cat", 1.3), (" here", 1.0)]]),
        ("(a (cat:2) dog:0.5)", [[("a ", 0.5), ("cat", 1.0), (" dog", 0.5)]]),
        (r"a \(cat\)", [[("a (cat)", 1.0)]]),
        ("a cat BREAK a dog", [[("a cat", 1.0)], [("a dog", 1.0)]]),
        ("a BREAKFAST", [[("a BREAKFAST", 1.0)]]),
        ("time 12:30", [[("time 12:30", 1.0)]]),
        ("(open", [[("open", UP)]]),
        ("close) here", [[("close) here", 1.0)]]),
    ],
)
def test_the_syntax_is_a1111s(prompt: str, sections: list):
    found = sections_of(prompt, "a1111")
    assert [[text for text, _ in own] for own in found] == [[text for text, _ in own] for own in sections]
    for own, expected in zip(found, sections, strict=True):
        assert [weight for _, weight in own] == pytest.approx([weight for _, weight in expected])
    assert sections_of(prompt, "plain") == [[(prompt, 1.0)]]


@pytest.mark.parametrize(
    ("prompt", "used"),
    [
        ("(a cat:1.2)", True),
        ("a BREAK b", True),
        (r"\(x\)", True),
        ("(a cat)", False),
        ("a cat: 2", False),
        ("", False),
    ],
)
def test_a_prompt_that_looks_so_is_noticed(prompt: str, used: bool):
    assert uses_syntax(prompt) is used


def test_weights_scale_the_difference_from_the_empty_prompt(base: Base):
    empty, plain = (base.encode([prompt]).context for prompt in ("", "a red cat"))
    weighted = base.encode(["a (red:1.5) cat"], "a1111").context
    expected = plain.clone()
    expected[0, 2] = empty[0, 2] + 1.5 * (plain[0, 2] - empty[0, 2])
    torch.testing.assert_close(weighted, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(base.encode(["a (red:1) cat"], "a1111").context, plain)


def test_break_begins_a_window(base: Base):
    length = base.pipeline.tokenizer.model_max_length
    found = base.encode(["a cat BREAK a dog"], "a1111").context
    parts = [base.encode([prompt]).context for prompt in ("a cat", "a dog")]
    torch.testing.assert_close(found, torch.cat(parts, 1))
    assert found.shape[1] == 2 * length


def test_the_syntax_is_a_setting_of_sampling(base: Base):
    def pictures(prompt: str, syntax: str) -> bytes:
        settings = SamplingSettings(num_inference_steps=1, prompt_syntax=syntax)  # pyright: ignore[reportArgumentType]
        return generate(base, prompt, [0], settings)[0].tobytes()

    assert pictures("a (red:1.5) cat", "a1111") != pictures("a red cat", "a1111")
    assert pictures("a (red:1.0) cat", "a1111") == pictures("a red cat", "plain")
