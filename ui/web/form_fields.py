"""Controls of the page, made from the fields of a typed configuration: each option is explained in one place."""

from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def control(model: type[BaseModel], name: str, form: str, **options: Any) -> Any:
    """The control of a field: its label, explanation, default and bounds; `options` are the component's own.

    Its `elem_id` is FORM-NAME, by which a refusal finds it.

    A number is a slider where `minimum` and `maximum` are given; an option that may be unset is left empty. What is out
    of the field's bounds is for the model to refuse: Gradio would tell it far from the field.
    """
    field = model.model_fields[name]
    label = field.title or name.replace("_", " ").capitalize()
    shared: dict[str, Any] = {"label": label, "info": field.description, "value": field.default}
    shared["elem_id"] = f"{form}-{name}"
    return _component(_kind(field), field, {**shared, **options})


def given_values(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """What the controls of these fields hold, as the model takes it: what is empty is left out."""
    chosen = {name: value for name, value in values.items() if value not in (None, "", [])}
    for name, value in chosen.items():
        if isinstance(value, str) and get_origin(_kind(model.model_fields[name])) is tuple:
            chosen[name] = tuple(line for line in value.splitlines() if line.strip())
    return chosen


def _kind(field: FieldInfo) -> Any:
    """The type of a field's value when it is set."""
    if NoneType not in get_args(field.annotation):
        return field.annotation
    return next(kind for kind in get_args(field.annotation) if kind is not NoneType)


def _component(kind: Any, field: FieldInfo, options: dict[str, Any]) -> Any:
    if "choices" in options:
        return gr.Dropdown(**options)
    if kind is bool:
        return gr.Checkbox(**options)
    if kind in (int, float) and {"minimum", "maximum"} <= {*options}:
        return gr.Slider(**{**({"step": 1} if kind is int else {}), **options})
    if kind in (int, float) and field.default is None:  # an empty gr.Number comes back as 0
        return gr.Textbox(**{"max_lines": 1, "placeholder": "unset", **options})
    if kind in (int, float):
        return gr.Number(precision=0 if kind is int else None, **options)
    if get_origin(kind) is Literal:
        return gr.Dropdown(choices=list(get_args(kind)), **options)
    if get_origin(kind) is tuple and get_origin(get_args(kind)[0]) is not Literal:
        options["value"] = "\n".join(map(str, options["value"] or ()))
        return gr.Textbox(lines=2, **options)
    if get_origin(kind) is tuple:
        options["value"] = list(options["value"] or ())
        return gr.CheckboxGroup(choices=list(get_args(get_args(kind)[0])), **options)
    return gr.Textbox(**options)
