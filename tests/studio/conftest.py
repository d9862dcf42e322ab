"""A small tokenizer, text encoder and UNet with random weights."""

from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from studio.layers.target_modules import Site, find_sites


@pytest.fixture
def tokenizer() -> CLIPTokenizer:
    """A tokenizer like CLIP's with the letters and the words cat and dog."""
    letters = sorted(ByteLevel.alphabet())
    merges = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *(one + other for one, other in merges)]
    vocabulary = [*pieces, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(vocabulary)},
        merges=merges,  # pyright: ignore[reportArgumentType]
        model_max_length=16,
    )


@pytest.fixture
def text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    torch.manual_seed(1)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16,
        bos_token_id=len(tokenizer) - 2,
        eos_token_id=len(tokenizer) - 1,
    )
    return CLIPTextModel(config).eval().requires_grad_(False)


@pytest.fixture
def unet(make_unet: Callable[[], UNet2DConditionModel]) -> UNet2DConditionModel:
    torch.manual_seed(2)
    return make_unet().eval().requires_grad_(False)


@pytest.fixture
def sites(unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> dict[str, Site]:
    """All attention sites of the small model."""
    return find_sites({"unet": unet, "text_encoder": text_encoder})
