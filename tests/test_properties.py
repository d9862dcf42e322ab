"""What holds of every name, prompt, caption and crop, tried on those that Hypothesis makes up."""

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from concepts.errors import LibraryError
from concepts.names import check_class_word, check_name
from studio.models.base_model import Base
from studio.models.generation_request import GenerationRequest, request_from_text
from studio.models.regions.region import crop
from studio.models.token_embeddings import expand_tokens, load_tokens, remove_tokens, token_of
from training.config.recipe import Recipe
from training.data.augmentation import MAX_ASPECT_RATIO, SMALLEST_CROP, bucket_sizes, cuts
from training.data.captions import caption_of, named
from training.data.dataset import Sample
from ui.services.generation import ImageGenerator
from ui.services.named_concepts import alone, names_written

# No deadline, since a busy machine is no fault of the code; the fixtures hold nothing that an example changes
examples = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,39}", fullmatch=True)
words = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]), max_size=20)
"""Text that names no concept."""
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
class_words = st.from_regex(r"[a-z][a-z '-]{0,20}[a-z]", fullmatch=True)
shares = st.floats(0, 1)
sides = st.integers(1, 3000)


def refusal(check: Callable[[str], None], text: str) -> str:
    """What the check says against a text, nothing if it is allowed."""
    try:
        check(text)
    except LibraryError as error:
        return str(error)
    return ""


def cased(text: str, upper: bool) -> str:
    return text.upper() if upper else text


@examples
@given(texts)
def test_a_name_is_refused_by_its_text_or_stands_in_prompts(text: str):
    if refused := refusal(check_name, text):
        assert refused.startswith(f'"{text}" is not a valid name. Use 1 to 40 letters')
        assert not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,39}", text)
    else:
        assert names_written(token_of(text)) == [text]


@examples
@given(names)
def test_every_name_is_allowed_and_read_in_a_prompt_in_its_own_case(name: str):
    check_name(name)
    assert names_written(f"a {token_of(name)}, and again {token_of(name)}") == [name]
    for wrong in (f"{name}\n", f" {name}", f"{name}<", f"1{name}", f"{name}{'x' * (41 - len(name))}"):
        with pytest.raises(LibraryError, match="is not a valid name"):
            check_name(wrong)


@examples
@given(texts)
def test_a_class_word_never_holds_what_a_prompt_or_a_caption_reads(text: str):
    if refused := refusal(check_class_word, text):
        assert refused.startswith(f'"{text}" is not a valid class word')
    else:
        assert 1 <= len(text) <= 40
        assert not set(text) & set('<>{},"\n\t')


@examples
@given(st.lists(st.tuples(words, names), max_size=5), words)
def test_a_prompt_names_its_concepts_in_order_each_once(parts: list[tuple[str, str]], end: str):
    prompt = "".join(before + token_of(name) for before, name in parts) + end
    assert names_written(prompt) == list(dict.fromkeys(name for _, name in parts))


@examples
@given(st.lists(st.tuples(words, names), min_size=1, max_size=5), words, names)
def test_a_prompt_for_one_concept_names_it_alone(parts: list[tuple[str, str]], end: str, chosen: str):
    prompt = "".join(before + token_of(name) for before, name in parts) + end
    reduced = alone(prompt, chosen)
    assert names_written(reduced) == [chosen]
    assert reduced == parts[0][0] + token_of(chosen) + end
    assert alone(reduced, chosen) == reduced


@pytest.fixture
def generator(tmp_path) -> ImageGenerator:
    """One of a library without concepts."""
    return ImageGenerator(tmp_path)


@examples
@given(st.text(st.one_of(st.sampled_from("<>a-_1"), st.characters(exclude_categories=["Cs"])), max_size=30))
def test_the_parts_of_a_prompt_make_it_up_again(generator: ImageGenerator, prompt: str):
    parts = generator.read_prompt(prompt)
    assert "".join(part for part, _ in parts) == prompt
    assert [part for part, kind in parts if kind != "plain"] == [
        token_of(name) for name in re.findall(r"<([A-Za-z][\w-]*)>", prompt)
    ]


@examples
@given(texts, texts, st.dictionaries(names, st.floats(-2, 2), max_size=3))
def test_the_text_in_a_picture_is_the_request_that_made_it(prompt: str, negative: str, strengths: dict[str, float]):
    request = GenerationRequest(prompt=prompt, negative_prompt=negative, strengths={**strengths}, num_images=1, seed=9)
    assert request_from_text(request.text(9)) == request


PIECES = {"<rex>": 1, "<milo>": 3}
"""How many vectors each token has, so how many pieces it is written as."""


@pytest.fixture
def with_tokens(base: Base):
    """The tiny base, which knows two tokens."""
    for token, count in PIECES.items():
        load_tokens(base.text_encoders, token, {"text_encoder": torch.ones(count, 32)})
    yield base
    for token in PIECES:
        remove_tokens(base.text_encoders, token)


@examples
@given(st.lists(st.tuples(st.sampled_from(["a cat", "on the beach,", *PIECES]), st.booleans()), max_size=6))
def test_each_mention_of_a_token_is_read_as_its_vectors(with_tokens: Base, parts: list[tuple[str, bool]]):
    tokenizer, encoder = with_tokens.text_encoders["text_encoder"]
    prompt = " ".join(cased(part, upper) for part, upper in parts)
    found = Counter(tokenizer.tokenize(expand_tokens(encoder, prompt)))
    mentions = Counter(part for part, _ in parts)
    for token, count in PIECES.items():
        pieces = [token, *(f"{token}_{index}" for index in range(1, count))]
        assert [found[piece] for piece in pieces] == [mentions[token]] * count


@examples
@given(texts, names, class_words)
def test_a_caption_names_its_concept_and_stays_so(caption: str, name: str, class_word: str):
    token = token_of(name)
    written = named(caption, token, class_word)
    assert token.lower() in written.lower()
    assert named(written, token, class_word) == written
    assert written == " ".join(written.split())


@examples
@given(words, names, class_words, words)
def test_the_first_class_word_of_a_caption_is_the_concept(before: str, name: str, class_word: str, after: str):
    token, start = token_of(name), " ".join(before.replace("{}", "").split())
    caption = named(f"{start} {class_word} . {after}", token, class_word)
    assert caption.count(token) >= 1
    if "{}" not in after and " ".join(class_word.split()) not in start.lower():
        assert caption.startswith(f"{start} {token} .".strip())


@examples
@given(st.lists(words.filter(lambda text: "," not in text), max_size=6), st.integers(0, 2**31))
def test_a_shuffled_caption_has_the_same_tags(tags: list[str], seed: int):
    sample = Sample(torch.zeros(1), ",".join(["<rex>", *tags]))
    recipe = Recipe(captions="files", shuffle_caption=True)
    shuffled = caption_of(sample, "{}", "<rex>", "dog", recipe, torch.Generator().manual_seed(seed))
    assert Counter(shuffled.split(", ")) == Counter(" ".join(tag.split()) for tag in ["<rex>", *tags])


@examples
@given(st.integers(64, 1024), st.integers(1, 15), st.sampled_from([8, 16, 64]))
def test_buckets_are_about_as_large_as_the_square(side: int, count: int, step: int):
    sizes = bucket_sizes(side, count, step)
    assert 1 <= len(sizes) <= count
    if count > 1:
        for width, height in sizes:
            assert width % step == height % step == 0
            assert max(width, height) <= side * math.sqrt(MAX_ASPECT_RATIO) + step / 2
            assert min(width, height) >= side / math.sqrt(MAX_ASPECT_RATIO) - step / 2
            assert abs(math.sqrt(width * height) - side) <= step


recipes = st.builds(
    lambda **options: Recipe(**options),
    buckets=st.integers(1, 6), crops=st.integers(0, 3), random_flip=st.booleans(), seed=st.integers(0, 1000),
)  # fmt: skip


@examples
@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=3), recipes)
def test_every_cut_lies_in_its_picture_and_keeps_its_shape(sizes: list[tuple[int, int]], recipe: Recipe):
    pictures = [Image.new("L", size) for size in sizes]
    found = list(cuts(pictures, recipe, 32, 8))
    assert len(found) == len(pictures) * (1 + recipe.random_flip + recipe.crops)
    assert found == list(cuts(pictures, recipe, 32, 8))
    for index, part in found:
        (left, top, right, bottom), (width, height) = part.box, pictures[index].size
        assert part.of(pictures[index]).size == part.size
        assert part.size in bucket_sizes(32, recipe.buckets, 8)
        assert (right - left) / (bottom - top) == pytest.approx(part.size[0] / part.size[1])
        largest = max((right - left) / width, (bottom - top) / height)
        assert SMALLEST_CROP - 1e-9 <= largest <= 1 + 1e-9
        assert recipe.random_flip or not part.mirrored


@examples
@given(st.integers(1, 200), st.integers(1, 200), shares, shares)
def test_boxes_side_by_side_cut_a_picture_without_gap_or_overlap(width: int, height: int, across: float, down: float):
    picture: Any = Image.effect_noise((width, height), 50)
    whole = Image.new("L", picture.size)
    for top, bottom in ((0.0, down), (down, 1.0)):
        for left, right in ((0.0, across), (across, 1.0)):
            part = crop(picture, (top, left, bottom, right))
            whole.paste(part, (round(left * width), round(top * height)))
    assert whole.tobytes() == picture.tobytes()
