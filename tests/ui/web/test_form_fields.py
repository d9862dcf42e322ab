from typing import Literal

import gradio as gr
import pytest
from pydantic import BaseModel, Field

from studio.models.generation_request import GenerationRequest
from training.config.recipe import Recipe
from ui.web.form_fields import control, given_values


class Options(BaseModel):
    share: float = Field(default=0.25, ge=0, lt=1, description="A share.")
    count: int | None = Field(default=None, ge=1, description="How many.")
    on: bool = Field(default=True, description="Whether.")
    kind: Literal["one", "two"] = Field(default="two", description="Which.")
    some: tuple[Literal["a", "b"], ...] | None = Field(default=None, description="Some of them.")
    lines: tuple[str, ...] = Field(default=("a", "b"), description="Lines.")
    word: str = Field(default="cat", description="A word.")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("share", gr.Number), ("count", gr.Textbox), ("on", gr.Checkbox), ("kind", gr.Dropdown),
     ("some", gr.CheckboxGroup), ("word", gr.Textbox)],
)  # fmt: skip
def test_every_kind_of_field_has_its_control(name, kind):
    made = control(Options, name, "form")
    assert made.elem_id == f"form-{name}"
    assert type(made) is kind
    assert made.label == name.capitalize()
    assert made.info == Options.model_fields[name].description


def test_defaults_are_the_fields():
    share = control(Options, "share", "form")
    assert (share.value, share.precision) == (0.25, None)
    steps = control(GenerationRequest, "num_inference_steps", "form")
    assert (steps.value, steps.precision, steps.minimum) == (20, 0, None)
    assert control(Options, "kind", "form").choices == [("one", "one"), ("two", "two")]


def test_a_control_can_be_given_bounds_and_choices():
    steps = control(GenerationRequest, "num_inference_steps", "form", minimum=1, maximum=60)
    assert isinstance(steps, gr.Slider)
    assert (steps.value, steps.maximum, steps.step) == (20, 60, 1)
    assert isinstance(control(GenerationRequest, "method", "form", choices=["a"], value="a"), gr.Dropdown)


def test_what_is_empty_is_left_out_and_lines_are_lists():
    values = {"count": "", "share": 0.5, "some": [], "lines": "one\n\ntwo", "word": "dog"}
    assert given_values(Options, values) == {"share": 0.5, "lines": ("one", "two"), "word": "dog"}
    assert Options(**given_values(Options, {"count": "3"})).count == 3
    assert control(Options, "lines", "form").value == "a\nb"


def test_every_option_of_the_recipe_has_a_control():
    for name in set(Recipe.model_fields) - {"options"}:
        assert control(Recipe, name, "form").label.lower().replace("-", " ") == name.replace("_", " ")
