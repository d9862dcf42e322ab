"""What the commands share: their common options, how they read values, and how they report."""

import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from concepts import Library
from concepts.database import DATABASE_VARIABLE
from concepts.storage import Place, cache_folder
from studio.errors import StudioError

if TYPE_CHECKING:
    from ui.workflow import Workflow

LibraryOption = Annotated[
    str, typer.Option("--library", envvar="STUDIO_LIBRARY", help="The folder, or fsspec URL, of the concept library.")
]
BaseOption = Annotated[str, typer.Option("--base", help="toybox, a diffusers folder, or a model of the hub.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", envvar=DATABASE_VARIABLE, help="postgresql://USER:PASSWORD@HOST/NAME; SQLite if unset."),
]
StrengthOption = Annotated[list[str], typer.Option("--strength", help="NAME=1.0: how strongly a concept acts.")]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="spectral, fedavg, gradient, orthogonal, ties, dare or svd; by default what suits the concepts' adapters.",
    ),
]
AverageOption = Annotated[
    bool, typer.Option("--average", help="Divide all strengths by the number of concepts, as 1/k.")
]
DEFAULT_LIBRARY = "~/.concept-studio"
_BOX = re.compile(r"([\w-]+):(\d*\.?\d+),(\d*\.?\d+),(\d*\.?\d+),(\d*\.?\d+)")

errors = Console(stderr=True, highlight=False)
"""Everything but results goes to stderr."""


def report(document: Any, as_json: bool, show: Callable[[], None]) -> None:
    """Prints a command's result: the document as JSON, or whatever `show` prints for a person."""
    if as_json:
        json.dump(document, sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
    else:
        show()


def outline(document: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A document's lines for a person: a value beside its key, and what holds several values below, further in."""
    for key, value in document.items():
        label = f"{indent}{str(key).replace('_', ' ')}:"
        if isinstance(value, Mapping) and value:
            yield label
            yield from outline(value, indent + "  ")
        elif isinstance(value, list) and any(item is not None for item in value):
            yield label
            for item in value:
                parts = outline(item) if isinstance(item, Mapping) else ["-" if item is None else str(item)]
                yield f"{indent}  {', '.join(parts)}"
        else:
            yield f"{label} {'none' if value is None or isinstance(value, list | Mapping) else value}"


def tell(text: str) -> None:
    """Tells a person something beside the result."""
    errors.print(f"Note: {text}", markup=False, soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A progress bar with the time that is left, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=errors) as bar:
        yield bar


def pairs(values: Sequence[str], option: str) -> dict[str, str]:
    """KEY=VALUE arguments as a dictionary."""
    split = [value.partition("=") for value in values]
    for value, (key, sign, _) in zip(values, split, strict=True):
        if not (key and sign):
            raise StudioError(f"Write {option} as NAME=VALUE: {value!r} is not.")
    return {key: value for key, _, value in split}


def strengths_from(values: Sequence[str], option: str = "--strength") -> dict[str, float]:
    """--strength NAME=1.0 arguments by name."""
    strengths = {}
    for name, value in pairs(values, option).items():
        try:
            strengths[name] = float(value)
        except ValueError:
            strengths[name] = math.nan
        if not math.isfinite(strengths[name]):
            raise StudioError(f"Write {option} as NAME=NUMBER, as in rex=0.8: {value!r} is no such number.")
    return strengths


def regions_from(values: Sequence[str]) -> dict[str, tuple[float, float, float, float]]:
    """--region NAME:top,left,bottom,right arguments by name."""
    boxes = {}
    for value in values:
        match = _BOX.fullmatch(value.replace(" ", ""))
        if not match:
            raise StudioError(f"Write --region as NAME:top,left,bottom,right, as in rex:0,0,1,0.5: {value!r} is not.")
        top, left, bottom, right = (float(number) for number in match.groups()[1:])
        boxes[match[1]] = (top, left, bottom, right)
    return boxes


def size_from(text: str | None) -> tuple[int, int] | None:
    """A --size WIDTHxHEIGHT argument."""
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text or "")
    if text and not match:
        raise StudioError(f"Write --size as WIDTHxHEIGHT in pixels, as in 256x128: {text!r} is not.")
    return (int(match[1]), int(match[2])) if match else None


def number_from(text: str, called: str = "budget") -> int:
    """A whole number such as 20000, 20k or 1.5M; a refusal says what it is called."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text)
    if not match:
        example = "8" if called == "rank" else "20000, 20k or 1.5M"
        raise StudioError(f"Write the {called} as a number, as in {example}: {text!r} is not.")
    return int(float(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()])


def parsed(text: str) -> Any:
    """A --set value: a number, true, false or null as JSON has them, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def workflow_of(library: str, base: str, **options: Any) -> "Workflow":
    """The verbs on this library and base; torch and diffusers take seconds to import, which --help should not."""
    from ui.workflow import Workflow

    return Workflow(library, base, **options)


def library_at(root: Place | str) -> Library:
    """The library at `root`, with the database that --database or its environment variable names."""
    return Library(root, os.environ.get(DATABASE_VARIABLE) or None)


def default_work_folder() -> Path:
    """Where long trainings of a base keep their checkpoints: the user's cache folder."""
    return cache_folder() / "toybox"
