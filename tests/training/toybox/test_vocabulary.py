import numpy as np
import pytest
from transformers import CLIPTokenizer

from training.toybox.captions import caption
from training.toybox.render import sample_scene
from training.toybox.vocabulary import MAX_LENGTH, build_tokenizer, write_tokenizer
from training.toybox.world import COLOURS, THINGS


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer()


@pytest.mark.parametrize(
    "text", ["a blue cat", "Ünïcödé 猫 🐕", "rare wörds: xylophone-ish!", "<rex>", "\u0000\uffff", "don't"]
)
def test_any_text_tokenises_without_loss(tokenizer: CLIPTokenizer, text: str):
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids
    assert tokenizer.eos_token_id not in ids
    decoded = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert "".join(str(decoded).split()) == "".join(text.lower().split())


def test_the_end_of_text_has_the_highest_id(tokenizer: CLIPTokenizer):
    assert tokenizer.eos_token_id == len(tokenizer) - 1
    ids = tokenizer("a cat").input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id == max(ids)


def test_the_worlds_words_are_mostly_whole(tokenizer: CLIPTokenizer):
    words = [*COLOURS, *(word for name in THINGS for word in name.split())]
    whole = [word for word in words if len(tokenizer.tokenize(word)) == 1]
    assert len(whole) > 0.9 * len(words)
    assert {"cat", "dog", "vase", "robot"} <= set(whole)


def test_every_caption_fits(tokenizer: CLIPTokenizer):
    rng = np.random.default_rng(9)

    def lengths(marked_share: float) -> list[int]:
        return [len(tokenizer(caption(sample_scene(rng, marked_share), rng)).input_ids) for _ in range(500)]

    assert 10 < max(lengths(0.0)) <= MAX_LENGTH == tokenizer.model_max_length
    assert np.mean([length > MAX_LENGTH for length in lengths(0.4)]) < 0.02  # two things, both with markings


def test_it_is_saved_without_the_padding_of_its_last_call(tokenizer: CLIPTokenizer, tmp_path):
    before = tokenizer("a blue cat").input_ids
    padded = tokenizer(["a cat"], padding="max_length", truncation=True).input_ids
    assert len(padded[0]) == MAX_LENGTH
    write_tokenizer(tokenizer, tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    assert loaded("a blue cat").input_ids == before
    assert loaded.backend_tokenizer.padding is None
    assert loaded.backend_tokenizer.truncation is None
    assert (len(loaded), loaded.model_max_length) == (len(tokenizer), MAX_LENGTH)
