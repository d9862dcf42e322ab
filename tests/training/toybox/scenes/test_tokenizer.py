import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from transformers import CLIPTokenizer

from training.toybox.scenes.captions import caption
from training.toybox.scenes.individuals.traits import Individual
from training.toybox.scenes.items import BACKGROUNDS
from training.toybox.scenes.render import Item, Scene, sample_scene
from training.toybox.scenes.tokenizer import MAX_LENGTH, build_tokenizer, world_words, write_tokenizer


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


def test_another_process_builds_the_same_tokenizer(tokenizer: CLIPTokenizer):
    """A training that is resumed must read the same ids; the trainer's own hash maps differ from run to run."""
    code = (
        "import json; from training.toybox.scenes.tokenizer import build_tokenizer; "
        "print(json.dumps(build_tokenizer().get_vocab()))"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
        assert json.loads(done.stdout.splitlines()[-1]) == tokenizer.get_vocab()


def test_each_word_of_the_world_is_one_token(tokenizer: CLIPTokenizer):
    words = set(world_words())
    assert {"cat", "android", "zigzag", "antennae", "teal", "checkerboard", "painting", "between"} <= words
    assert [word for word in words if len(tokenizer.tokenize(word)) != 1] == []
    rng = np.random.default_rng(8)
    texts = [caption(sample_scene(rng), rng).text for _ in range(1000)]
    assert {word for text in texts for word in text.replace(",", "").split()} <= words
    assert len(tokenizer) < 1500


def test_no_caption_is_cut(tokenizer: CLIPTokenizer):
    rng = np.random.default_rng(9)
    full = Individual("bear", "orange", "dots", "white", "chest screen", "purple", 0)
    slots = ((0.0, 0.3), (0.3, 0.6), (0.6, 1.0))
    items = tuple(Item(replace(full, seed=seed), slot, 0.3, (0.5, 0.5)) for seed, slot in enumerate(slots))
    fullest = [Scene(items, place, 0) for place in BACKGROUNDS]
    drawn = [sample_scene(rng) for _ in range(6000)]
    texts = [caption(scene, rng).text for scene in drawn + fullest * 200]
    lengths = [len(ids) for ids in tokenizer(texts).input_ids]
    assert 55 < max(lengths) <= MAX_LENGTH == tokenizer.model_max_length == 77


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
