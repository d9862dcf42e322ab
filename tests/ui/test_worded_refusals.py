import pytest
from pydantic import ValidationError

from concepts import LibraryError
from training.recipe import Recipe
from ui.refusals import field_of, sentence
from ui.request import PaintRequest


@pytest.mark.parametrize(
    ("model", "values", "field", "expected"),
    [
        (PaintRequest, {"prompt": "a", "steps": 0}, "steps", "Choose steps of at least 1: 0 is not."),
        (PaintRequest, {"prompt": "a", "guidance": 200}, "guidance", "Choose guidance of at most 100: 200 is not."),
        (PaintRequest, {}, "prompt", "Change prompt: field required."),
        (Recipe, {"prior_share": 1}, "prior_share", "Choose prior_share of less than 1: 1 is not."),
    ],
)
def test_a_wrong_option_is_a_sentence(model, values, field, expected):
    with pytest.raises(ValidationError) as caught:
        model(**values)
    assert (field_of(caught.value), sentence(caught.value)) == (field, expected)


def test_other_refusals_are_as_they_were_written():
    assert sentence(LibraryError("Give it a name.")) == "Give it a name."
