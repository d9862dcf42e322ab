"""How the tabs listen: a refusal becomes a sentence beside the form, and what paints or scores waits its turn."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

import gradio as gr
from pydantic import ValidationError

from concepts import LibraryError
from studio.errors import StudioError
from ui.fragments import problem as problem_html

MODEL = "model"
"""Events that use the models run one at a time, whatever page they come from."""


def listen(
    trigger: Callable[..., Any],
    act: Callable[..., Any],
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    problem: gr.HTML | None = None,
    model: bool = False,
    **options: Any,
) -> Any:
    """Calls `act` on an event of the page. It returns one value, or as many as there are `outputs`.

    What it refuses is shown in `problem`, and the outputs stay as they are. Nothing of the page is an API.
    """
    shown = [*outputs, problem] if problem else [*outputs]
    settings: dict[str, Any] = {
        "api_visibility": "private",
        "show_progress": "minimal" if model else "hidden",
        "concurrency_id": MODEL if model else None,
        "concurrency_limit": 1 if model else None,
        **options,
    }
    return trigger(_explained(act, len(outputs)) if problem else act, list(inputs), shown, **settings)


def _explained(act: Callable[..., Any], count: int) -> Callable[..., Any]:
    """The same function with one output more: the sentence of what it refused."""

    def row(values: Any) -> list[Any]:
        return [*(values if count > 1 else [values] if count else []), ""]

    def refused(error: Exception) -> list[Any]:
        return [*[gr.skip()] * count, problem_html(sentence(error))]

    if inspect.isgeneratorfunction(act):

        @wraps(act)
        def each(*given: Any, **options: Any) -> Iterator[list[Any]]:
            try:
                for values in act(*given, **options):
                    yield row(values)
            except (LibraryError, StudioError, ValidationError, OSError) as error:
                yield refused(error)

        return each

    @wraps(act)
    def once(*given: Any, **options: Any) -> list[Any]:
        try:
            return row(act(*given, **options))
        except (LibraryError, StudioError, ValidationError, OSError) as error:
            return refused(error)

    return once


def sentence(error: Exception) -> str:
    """What a person reads of a refusal."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"Change {' '.join(map(str, first['loc'])).replace('_', ' ')}: {first['msg'].lower()}."
