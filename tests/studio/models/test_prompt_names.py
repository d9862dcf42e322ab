"""Names in prompts, as people of other tools write them."""

import pytest
from pydantic import ValidationError

from concepts.errors import StudioError
from studio.models.generation_request import GenerationRequest
from studio.models.prompt_names import read_names


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
