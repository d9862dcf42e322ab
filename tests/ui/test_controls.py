from typing import Literal

import gradio as gr
import pytest
from pydantic import BaseModel, Field

from training.recipe import Recipe
from ui.controls import control
from ui.request import PaintRequest


class Options(BaseModel):
    share: float = Field(default=0.25, ge=0, lt=1, description="A share.")
    count: int | None = Field(default=None, ge=1, description="How many.")
    on: bool = Field(default=True, description="Whether.")
    kind: Literal["one", "two"] = Field(default="two", description="Which.")
    some: tuple[Literal["a", "b"], ...] | None = Field(default=None, description="Some of them.")
    word: str = Field(default="cat", description="A word.")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("share", gr.Number), ("count", gr.Number), ("on", gr.Checkbox), ("kind", gr.Dropdown),
     ("some", gr.CheckboxGroup), ("word", gr.Textbox)],
)  # fmt: skip
def test_every_kind_of_field_has_its_control(name, kind):
    made = control(Options, name)
    assert type(made) is kind
    assert made.label == name
    assert made.info == Options.model_fields[name].description


def test_bounds_and_defaults_are_the_fields():
    share, count = control(Options, "share"), control(Options, "count")
    assert (share.minimum, share.maximum, share.value, share.precision) == (0, 1, 0.25, None)
    assert (count.minimum, count.maximum, count.value, count.precision) == (1, None, None, 0)
    assert control(Options, "kind").choices == [("one", "one"), ("two", "two")]


def test_a_control_can_be_given_bounds_and_choices():
    steps = control(PaintRequest, "steps", minimum=1, maximum=60)
    assert isinstance(steps, gr.Slider)
    assert (steps.value, steps.maximum, steps.step) == (20, 60, 1)
    assert isinstance(control(PaintRequest, "method", choices=["a"], value="a"), gr.Dropdown)


def test_every_option_of_the_recipe_has_a_control():
    for name in set(Recipe.model_fields) - {"options"}:
        assert control(Recipe, name).label == name.replace("_", " ")
