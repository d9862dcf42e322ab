"""Controls of the page, made from the fields of a typed configuration: each option is explained in one place."""

from types import NoneType
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def control(model: type[BaseModel], name: str, **options: Any) -> Any:
    """The control of a field: its label, explanation, default and bounds; `options` are the component's own.

    A number between two bounds is a slider, given bounds of its own by `minimum` and `maximum`; an option that may be
    unset is left empty.
    """
    field = model.model_fields[name]
    kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    kind = kinds[0] if NoneType in get_args(field.annotation) else field.annotation
    shared: dict[str, Any] = {"label": name.replace("_", " "), "info": field.description, "value": field.default}
    return _component(kind, field, {**shared, **options})


def _component(kind: Any, field: FieldInfo, options: dict[str, Any]) -> Any:
    low, high = _bounds(field)
    if "choices" in options:
        return gr.Dropdown(**options)
    if kind is bool:
        return gr.Checkbox(**options)
    if kind in (int, float):
        whole = {"step": 1} if kind is int else {}
        if {"minimum", "maximum"} <= {*options}:  # both of them given
            return gr.Slider(**{**whole, **options})
        return gr.Number(**{"minimum": low, "maximum": high, "precision": 0 if kind is int else None, **options})
    if get_origin(kind) is Literal:
        return gr.Dropdown(choices=list(get_args(kind)), **options)
    if get_origin(kind) is tuple:
        options["value"] = list(options["value"] or ())
        return gr.CheckboxGroup(choices=list(get_args(get_args(kind)[0])), **options)
    return gr.Textbox(**options)


def _bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """The least and the greatest value that a control may take."""
    low = next((m.ge if isinstance(m, Ge) else m.gt for m in field.metadata if isinstance(m, Ge | Gt)), None)
    high = next((m.le if isinstance(m, Le) else m.lt for m in field.metadata if isinstance(m, Le | Lt)), None)
    return low, high  # pyright: ignore[reportReturnType]
