"""Prompts longer than the text encoder reads are encoded in several windows, and nothing of them is lost."""

import pytest
import torch

from concepts.errors import StudioError
from studio.models.base_model import Base, generate
from studio.models.prompt_encoding import PromptEmbeds, joined, matched
from studio.models.prompt_weights import sections_of
from studio.models.prompt_windows import MAX_WINDOWS, windows_of
from studio.models.regions.region import Region
from studio.models.sampling_settings import SamplingSettings
from studio.models.token_embeddings import add_tokens, vectors_by_part


@pytest.fixture
def length(base: Base) -> int:
    """What the text encoder reads at once."""
    return base.pipeline.tokenizer.model_max_length


@pytest.fixture
def rex(base: Base) -> int:
    """The id of the token <rex>, of one vector."""
    add_tokens(base.text_encoders, "<rex>", "dog", 1)
    return base.pipeline.tokenizer.convert_tokens_to_ids("<rex>")


def test_a_short_prompt_is_as_the_tokenizer_pads_it(base: Base, rex: int):
    prompts = ["a photo of <rex> on the beach", "", "a dog"]
    own = base.pipeline.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert torch.equal(base.token_ids(prompts), own)


@pytest.mark.parametrize("words", [100, 200])
def test_a_name_at_the_end_of_a_long_prompt_is_read_and_trained(base: Base, rex: int, length: int, words: int):
    prompt = " ".join(["dog"] * words) + " next to <rex>"
    ids = base.token_ids([prompt])
    assert ids.shape[1] % length == 0
    assert ids.shape[1] > words
    assert (ids == rex).sum() == 1
    (vectors,) = vectors_by_part(base.text_encoders, "<rex>").values()
    base.encode_prompts([prompt]).square().sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.any()


def test_each_window_is_encoded_by_itself(base: Base, length: int):
    room = length - 2
    words = ["dog", "cat"] * room
    whole = base.encode_prompts([" ".join(words[: 2 * room])])
    parts = [base.encode_prompts([" ".join(words[start : start + room])]) for start in (0, room)]
    torch.testing.assert_close(whole, torch.cat(parts, 1))


def test_a_concept_of_several_vectors_is_not_cut(base: Base, length: int):
    add_tokens(base.text_encoders, "<milo>", "cat", 4)
    room = length - 2
    for before in range(room - 5, room + 1):
        text = " ".join(["dog"] * before) + " <milo> dog"
        ids = base.token_ids([text])[0].unflatten(0, (-1, length))
        own = torch.tensor(
            base.pipeline.tokenizer.convert_tokens_to_ids(["<milo>", *(f"<milo>_{i}" for i in (1, 2, 3))])
        )
        found = [window[torch.isin(window, own)].tolist() for window in ids]
        assert [row for row in found if row] == [own.tolist()]


def test_a_prompt_beyond_all_windows_is_refused(base: Base, length: int):
    tokenizer = base.pipeline.tokenizer
    most = MAX_WINDOWS * (length - 2)
    assert len(windows_of(tokenizer, sections_of(" ".join(["dog"] * most), "plain"), str)) == MAX_WINDOWS
    with pytest.raises(StudioError, match=rf"The prompt has {most + 1} tokens, more than {most}\. Shorten it: dog dog"):
        base.encode([" ".join(["dog"] * (most + 1))])


@pytest.mark.parametrize("regions", [(), (Region("a cat", 0, 0, 1, 0.5),)])
def test_a_negative_prompt_of_another_length_changes_nothing_but_the_length(base: Base, length: int, regions):
    long = " ".join(["dog"] * length)
    settings = SamplingSettings(num_inference_steps=1, negative_prompt=long, guidance_scale=3.0)
    (picture,) = generate(base, "a dog", [0], settings, regions)
    assert picture.size == (base.side, base.side)
    generate(base, long, [0], SamplingSettings(num_inference_steps=1), regions)


def test_contexts_are_repeated_as_a_whole():
    rows, unwanted = PromptEmbeds(torch.randn(2, 8, 3)), PromptEmbeds(torch.randn(1, 12, 3))
    wanted, others = matched(rows, 2, unwanted)
    assert wanted.context.shape == others.context.shape == (1, 48, 3)
    assert torch.equal(wanted.context[0, :24], rows.context[0].repeat(3, 1))
    assert torch.equal(others.context[0], unwanted.context[0].repeat(4, 1))
    assert torch.equal(wanted.context[0, 24:], rows.context[1].repeat(3, 1))
    same, others = matched(rows, 1, PromptEmbeds(torch.randn(1, 8, 3)))
    assert torch.equal(same.context, rows.context)
    assert others.context.shape == (1, 8, 3)


def test_rows_of_other_lengths_are_filled_with_empty_windows():
    short, long, empty = (PromptEmbeds(torch.randn(1, size, 3)) for size in (4, 8, 4))
    rows = joined([short.with_windows(empty, 2), long.with_windows(empty, 2)])
    assert torch.equal(rows.context, torch.cat([torch.cat([short.context, empty.context], 1), long.context]))
