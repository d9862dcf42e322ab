"""Names in prompts, as people of other tools write them."""

import pytest
from pydantic import ValidationError

from concepts.errors import StudioError
from studio.models.generation_request import GenerationRequest
from studio.models.prompt_names import others_between_brackets, read_names, read_negative_names, with_own_name


@pytest.mark.parametrize(
    ("written", "read", "strengths"),
    [
        ("a <rex> here", "a <rex> here", {}),
        ("a < rex >", "a <rex>", {}),
        ("a <rex:0.8>", "a <rex>", {"rex": 0.8}),
        ("a <lora:rex:0.8>", "a <rex>", {"rex": 0.8}),
        ("a <lora:rex>", "a <rex>", {}),
        ("a <LyCO: rex : 0.5 > and <milo>", "a <rex> and <milo>", {"rex": 0.5}),
        ("a <lora:rex:0.8:0.5>", "a <rex>", {"rex": {"": 0.8, "unet": 0.5}}),
        ("a <rex:0.8>, <rex:0.8>", "a <rex>, <rex>", {"rex": 0.8}),
        ("a <lora:0.8>", "a <lora>", {"lora": 0.8}),
        ("a <lora:lora:0.8>", "a <lora>", {"lora": 0.8}),
        ("a < b and c > d", "a < b and c > d", {}),
        ("a <rex", "a <rex", {}),
        ("a rex> < my dog>", "a rex> < my dog>", {}),
        ("2 < 3, i <3 dogs", "2 < 3, i <3 dogs", {}),
        ("", "", {}),
    ],
)
def test_names_are_read_where_the_meaning_is_plain(written: str, read: str, strengths: dict):
    assert read_names(written) == (read, strengths)


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("a <my dog>", "names no concept. A name has no blanks .* write <my-dog>"),
        ("a <>", "names no concept. Write a concept's name between"),
        ("a <3>", "names no concept"),
        ("a <rex:big>", "has no number as its strength. Write <rex:0.8>"),
        ("a <rex:1:2:3>", "has too many numbers"),
        ("a <rex:nan>", "has no number as its strength"),
        ("a <Rex:1> and <rex:0.5>", "Rex has two strengths|rex has two strengths"),
        ("a <rex:1> and <rex:0.5>", "rex has two strengths in the prompt"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(written: str, advice: str):
    with pytest.raises(StudioError, match=advice):
        read_names(written)


def test_a_request_has_the_names_and_strengths_of_its_prompt():
    request = GenerationRequest(prompt="a <lora:rex:0.8> and < milo >", strengths={"milo": 0.5})
    assert request.prompt == "a <rex> and <milo>"
    assert request.strengths == {"rex": 0.8, "milo": 0.5}
    assert GenerationRequest(prompt="a <rex:0.8>", strengths={"Rex": 0.8}).prompt == "a <rex>"
    with pytest.raises(ValidationError, match="rex has one strength in the prompt and another as an option") as caught:
        GenerationRequest(prompt="a <rex:0.8>", strengths={"rex": 0.5})
    assert isinstance(caught.value.errors()[0].get("ctx", {})["error"], StudioError)


@pytest.mark.parametrize(
    ("written", "read"),
    [("a <rex>", "a <rex>"), ("a < rex > and <lora:milo>", "a <rex> and <milo>"), ("a < b or c >", "a < b or c >")],
)
def test_a_negative_prompt_has_names_without_strengths(written: str, read: str):
    assert GenerationRequest(prompt="a dog", negative_prompt=written).negative_prompt == read_negative_names(written)
    assert read_negative_names(written) == read


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("a <my dog>", "names no concept. A name has no blanks .* write <my-dog>"),
        ("a <rex:0.8>", "rex has a strength in the negative prompt, where none is read. Write <rex> there"),
        ("a <lora:rex:0.8:0.5>", "rex has a strength in the negative prompt"),
    ],
)
def test_a_negative_prompt_with_more_is_refused(written: str, advice: str):
    with pytest.raises(StudioError, match=advice):
        read_negative_names(written)


@pytest.mark.parametrize(
    ("caption", "read"),
    [
        ("a <Rex>", "a <Rex>"),
        ("a < rex >, <lora:rex:0.8>", "a <rex>, <rex>"),
        ("<lora:milo:0.8>, <my dog>, <rexy>", "<lora:milo:0.8>, <my dog>, <rexy>"),
    ],
)
def test_a_caption_has_the_concepts_own_name(caption: str, read: str):
    assert with_own_name(caption, "rex") == read


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("a <rex> and < REX >, <lora:rex:0.8>", []),
        ("a <milo>, <my dog>, <lora:detail:0.6>, <milo>", ["<milo>", "<my dog>", "<lora:detail:0.6>"]),
        ("a < b and c > d", ["< b and c >"]),
        ("a <rex and milo>", ["<rex and milo>"]),
        ("a <rex", ["<rex"]),
        ("a rex> asleep", ["rex>"]),
        ("2 < 3, i <3 dogs", []),
        ("2 > 1 -> dogs", []),
    ],
)
def test_what_looks_like_a_name_and_is_none(text: str, others: list[str]):
    assert others_between_brackets(text, ["rex"]) == others
