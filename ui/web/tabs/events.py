"""How the tabs listen: a refusal becomes a sentence beside the form, and what generates or scores waits its turn."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import gradio as gr
from pydantic import ValidationError

from concepts import LibraryError
from concepts.errors import StudioError
from ui.services.error_messages import USER_ERRORS, field_of, sentence
from ui.web.assets import asset
from ui.web.html import note
from ui.web.html import problem as problem_html

MODEL = "model"
"""Events that use the models run one at a time, whatever page they come from."""


MOST_LISTED = 200
"""Concepts that a list of names offers, the newest; any other name can be typed."""


class FieldError(StudioError):
    """An invalid value of a field of the web UI, with the `elem_id` of its component."""

    def __init__(self, field: str, sentence: str):
        super().__init__(sentence)
        self.field = field


@contextmanager
def about(field: str, kinds: tuple[type[Exception], ...] = (StudioError,)) -> Iterator[None]:
    """Refusals of these kinds in here are about this field, unless they say otherwise."""
    try:
        yield
    except FieldError:
        raise
    except kinds as error:
        raise FieldError(field, str(error)) from error


def problem_spot() -> gr.HTML:
    """Where a refusal is shown that is about no field of the page in particular."""
    return gr.HTML(elem_classes="spot", js_on_load=asset("problem.js"))


def result_spot(hint: str, elem_id: str) -> gr.HTML:
    """Where a result is shown, and until then what to do to get one."""
    return gr.HTML(note(hint, "empty"), elem_id=elem_id)


def listen(
    trigger: Callable[..., Any],
    act: Callable[..., Any],
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    problem: gr.HTML | None = None,
    model: bool = False,
    form: str = "",
    **options: Any,
) -> Any:
    """Calls `act` on an event of the page. It returns one value, or as many as there are `outputs`.

    What it refuses is shown in `problem`, which is a `problem_spot`, or beside the field that it is about, and the
    outputs stay as they are. The options of a configuration are fields of the name FORM-OPTION. Nothing of the page is
    an API.
    """
    shown = [*outputs, problem] if problem else [*outputs]
    settings: dict[str, Any] = {
        "api_visibility": "private",
        "show_progress": "minimal" if model else "hidden",
        "concurrency_id": MODEL if model else None,
        "concurrency_limit": 1 if model else None,
        **options,
    }
    return trigger(_explained(act, len(outputs), form) if problem else act, list(inputs), shown, **settings)


def _explained(act: Callable[..., Any], count: int, form: str) -> Callable[..., Any]:
    """The same function with one output more: the sentence of what it refused."""

    def row(values: Any) -> list[Any]:
        return [*(values if count > 1 else [values] if count else []), ""]

    def refused(error: Exception) -> list[Any]:
        return [*[gr.skip()] * count, problem_html(sentence(error), _field(error, form))]

    if inspect.isgeneratorfunction(act):

        @wraps(act)
        def each(*given: Any, **options: Any) -> Iterator[list[Any]]:
            try:
                for values in act(*given, **options):
                    yield row(values)
            except USER_ERRORS as error:
                yield refused(error)

        return each

    @wraps(act)
    def once(*given: Any, **options: Any) -> list[Any]:
        try:
            return row(act(*given, **options))
        except USER_ERRORS as error:
            return refused(error)

    return once


def _field(error: Exception, form: str) -> str:
    if isinstance(error, ValidationError):
        return f"{form}-{field_of(error)}"
    return error.field if isinstance(error, FieldError) else ""


def refusal(check: Callable[[str], object], value: str) -> str:
    """What the check has against a value, as it stands beside the field; nothing if it is good."""
    try:
        check(value)
    except LibraryError as error:
        return problem_html(str(error))
    return ""
