"""Stage 2 of toybox: its tokenizer, a byte-level BPE in CLIP's format, so that any text can be tokenized."""

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import CLIPTokenizer

from training.toybox.scenes.captions import caption
from training.toybox.scenes.dataset import scenes
from training.toybox.scenes.individuals.traits import ACCESSORIES, KINDS, PATTERNS
from training.toybox.scenes.items import BACKGROUNDS, COLOURS, THINGS
from training.toybox.scenes.wording import synonyms

MAX_LENGTH = 77
"""As in Stable Diffusion, so that prompts are truncated at the same length."""
MAX_MERGES = 6000
"""More than needed to make each word one token; training stops when no pair of pieces is left."""
_END = "</w>"


def world_words() -> list[str]:
    """The words of captions: kinds, things, colours, patterns, accessories and places, sorted."""
    rng = np.random.default_rng(3)
    texts = [caption(scene, rng).text for shard in range(2) for scene in scenes(shard)]
    texts += [*KINDS, *THINGS, *COLOURS, *PATTERNS, *ACCESSORIES]
    texts += [word for name in (*KINDS, *THINGS) for word in synonyms(name)]
    texts += [phrase for place in BACKGROUNDS.values() for phrase in place.phrases]
    return sorted({word for text in texts for word in text.replace(",", " ").split()})


def build_tokenizer() -> CLIPTokenizer:
    """The tokenizer, in which each of `world_words` is one token: all bytes, all word-final bytes, the merges."""
    merges = _train_merges()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(letter + _END for letter in alphabet), *("".join(pair) for pair in merges)]
    # open_clip and CLIPTextModel find the end of the text at the highest id, so it comes last.
    words = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH)  # pyright: ignore[reportArgumentType]


def write_tokenizer(tokenizer: CLIPTokenizer, target: Path) -> None:
    """Saves the tokenizer without the padding and truncation of its last call."""
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(str(target))


def _train_merges() -> list[tuple[str, str]]:
    clip = CLIPTokenizer().backend_tokenizer
    tokenizer = Tokenizer(BPE(end_of_word_suffix=_END))
    tokenizer.normalizer, tokenizer.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=3 * 256 + MAX_MERGES,
        min_frequency=1,
        end_of_word_suffix=_END,
        initial_alphabet=alphabet,
        # The trainer numbers what it meets first by the order of a hash map, which differs from run to run, and breaks
        # ties between pairs by these numbers: given here, word-final letters have the same ones in every run.
        special_tokens=[letter + _END for letter in alphabet],
        show_progress=False,
    )
    tokenizer.train_from_iterator(world_words(), trainer)
    state = tokenizer.model.__getstate__()
    return [(left, right) for left, right in json.loads(state)["merges"]]
