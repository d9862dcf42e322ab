import pytest
from pydantic import ValidationError

from concepts import LibraryError
from concepts.errors import StudioError
from studio.models.generation_request import GenerationRequest
from training.config.recipe import Recipe
from ui.services.error_messages import field_of, sentence


@pytest.mark.parametrize(
    ("model", "values", "field", "expected"),
    [
        (
            GenerationRequest,
            {"prompt": "a", "num_inference_steps": 0},
            "num_inference_steps",
            "num_inference_steps must be at least 1, not 0.",
        ),
        (
            GenerationRequest,
            {"prompt": "a", "guidance_scale": 200},
            "guidance_scale",
            "guidance_scale must be at most 100, not 200.",
        ),
        (GenerationRequest, {}, "prompt", "Invalid prompt: field required."),
        (
            Recipe,
            {"\x1b[31m" + "a" * 3000: 1},
            "\x1b[31m" + "a" * 3000,
            "Invalid \ufffd[31m" + "a" * 95 + ": extra inputs are not permitted.",
        ),
        (Recipe, {"prior_ratio": 1}, "prior_ratio", "prior_ratio must be less than 1, not 1."),
    ],
)
def test_a_wrong_option_is_a_sentence(model, values, field, expected):
    with pytest.raises(ValidationError) as caught:
        model(**values)
    assert (field_of(caught.value), sentence(caught.value)) == (field, expected)


def test_other_refusals_are_as_they_were_written():
    assert sentence(LibraryError("Give it a name.")) == "Give it a name."


def test_an_error_of_ours_inside_a_validation_is_told_as_it_is():
    with pytest.raises(ValidationError) as caught:
        GenerationRequest(prompt="a <my dog>")
    assert sentence(caught.value) == (
        "<my dog> names no concept. A name has no blanks and no other characters than letters, digits, _ and -: write "
        "<my-dog>."
    )


@pytest.mark.parametrize(
    "error", [StudioError("It is \x1b[31m here.\nSo \u202e there."), OSError(28, "no room", "a\x1b[31m\u202eb")]
)
def test_no_control_character_of_the_input_reaches_the_terminal(error: Exception):
    said = sentence(error)
    assert all(line.isprintable() for line in said.split("\n"))
    assert said.count("\ufffd") == 2
