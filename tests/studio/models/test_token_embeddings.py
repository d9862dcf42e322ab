import copy

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from concepts.errors import StudioError
from studio.models.token_embeddings import (
    add_token,
    expand_tokens,
    load_token,
    remove_all_tokens,
    remove_token,
    token_vectors,
)


def encode(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, prompt: str) -> Tensor:
    return text_encoder(tokenizer(prompt, return_tensors="pt").input_ids).last_hidden_state


def test_a_new_token_means_its_initial_word(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel):
    before = encode(tokenizer, text_encoder, "a cat, dog")
    (index,) = add_token(tokenizer, text_encoder, "<rex>", "cat")
    assert tokenizer.tokenize("A <Rex>, dog")[1] == "<rex>"
    assert index in tokenizer("a <rex>, dog").input_ids
    assert torch.equal(encode(tokenizer, text_encoder, "a <rex>, dog"), before)
    assert torch.equal(encode(tokenizer, text_encoder, "a cat, dog"), before)


def test_a_word_of_several_tokens_is_represented_by_their_mean(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel):
    pieces = tokenizer.encode("hat", add_special_tokens=False)
    mean = text_encoder.get_input_embeddings()(torch.tensor(pieces)).mean(0)
    add_token(tokenizer, text_encoder, "<rex>", "hat", vectors=2)
    assert len(pieces) > 1
    assert torch.equal(token_vectors(text_encoder, "<rex>"), torch.stack([mean, mean]))


def test_only_the_new_vectors_are_trained(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel):
    base = text_encoder.get_input_embeddings()
    words = base.weight.clone()  # pyright: ignore[reportCallIssue]
    add_token(tokenizer, text_encoder, "<rex>", "cat")
    add_token(tokenizer, text_encoder, "<milo>", "dog")
    rex, milo = token_vectors(text_encoder, "<rex>"), token_vectors(text_encoder, "<milo>")
    start, other = rex.detach().clone(), milo.detach().clone()
    optimizer = torch.optim.AdamW([rex], lr=0.1, weight_decay=0.1)
    encode(tokenizer, text_encoder, "a <rex> and a cat").square().sum().backward()
    optimizer.step()
    assert rex.grad is not None
    assert rex.grad.shape == (1, 32)
    assert not torch.equal(rex, start)
    assert torch.equal(milo, other)
    assert torch.equal(base.weight, words)  # pyright: ignore[reportArgumentType]


def test_removal_restores_tokenizer_and_text_encoder(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel):
    description, state = tokenizer.backend_tokenizer.to_str(), copy.deepcopy(text_encoder.state_dict())
    embedding, ids = text_encoder.get_input_embeddings(), tokenizer("a <rex> and <milo>").input_ids
    add_token(tokenizer, text_encoder, "<rex>", "cat", vectors=2)
    add_token(tokenizer, text_encoder, "<milo>", "dog")
    remove_token(tokenizer, text_encoder, "<rex>")
    remove_token(tokenizer, text_encoder, "<milo>")
    assert text_encoder.get_input_embeddings() is embedding
    assert tokenizer.backend_tokenizer.to_str() == description
    assert tokenizer("a <rex> and <milo>").input_ids == ids
    assert state.keys() == text_encoder.state_dict().keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in text_encoder.state_dict().items())


def test_the_other_tokens_stay_when_one_goes(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel):
    load_token(tokenizer, text_encoder, "<rex>", torch.randn(2, 32))
    load_token(tokenizer, text_encoder, "<milo>", torch.randn(1, 32))
    milo = token_vectors(text_encoder, "<milo>")
    before = encode(tokenizer, text_encoder, "a <milo>")
    remove_token(tokenizer, text_encoder, "<rex>")
    assert token_vectors(text_encoder, "<milo>") is milo
    assert torch.equal(encode(tokenizer, text_encoder, "a <milo>"), before)
    remove_all_tokens(tokenizer, text_encoder)
    remove_all_tokens(tokenizer, text_encoder)
    assert "<milo>" not in tokenizer.get_vocab()


def test_several_vectors_are_written_as_several_pieces(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel):
    assert expand_tokens(text_encoder, "a <rex>") == "a <rex>"
    ids = load_token(tokenizer, text_encoder, "<rex>", torch.randn(3, 32))
    prompt = expand_tokens(text_encoder, "a <Rex>, cat")
    assert prompt == "a <rex> <rex>_1 <rex>_2, cat"
    encoded = tokenizer(prompt).input_ids
    assert [index for index in encoded if index in ids] == ids


def test_vectors_are_float32_beside_a_half_precision_encoder(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel):
    add_token(tokenizer, text_encoder.bfloat16(), "<rex>", "cat")
    assert token_vectors(text_encoder, "<rex>").dtype == torch.float32
    assert encode(tokenizer, text_encoder, "a <rex>").dtype == torch.bfloat16


def test_a_text_encoder_with_a_projection_takes_tokens(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel):
    model = CLIPTextModelWithProjection(text_encoder.config).eval()
    (index,) = load_token(tokenizer, model, "<rex>", torch.ones(1, 32))
    assert torch.equal(model.get_input_embeddings()(torch.tensor([index])), torch.ones(1, 32))
    assert model(tokenizer("a <rex>", return_tensors="pt").input_ids).text_embeds.isfinite().all()


def test_bad_tokens_are_refused_and_change_nothing(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel):
    add_token(tokenizer, text_encoder, "<rex>", "cat")
    size = len(tokenizer)
    for token in ("<rex>", "<REX>", "cat</w>"):
        with pytest.raises(StudioError, match="Choose another name"):
            add_token(tokenizer, text_encoder, token, "dog")
    for word, vectors in (("", 1), ("cat", 0)):
        with pytest.raises(StudioError, match="at least one vector"):
            add_token(tokenizer, text_encoder, "<milo>", word, vectors)
    with pytest.raises(StudioError, match=r"\(1, 31\).*\(n, 32\)"):
        load_token(tokenizer, text_encoder, "<milo>", torch.zeros(1, 31))
    with pytest.raises(StudioError, match="no token <milo>"):
        remove_token(tokenizer, text_encoder, "<milo>")
    assert len(tokenizer) == size
    remove_token(tokenizer, text_encoder, "<rex>")
    with pytest.raises(StudioError, match="no token <rex>"):
        token_vectors(text_encoder, "<rex>")
