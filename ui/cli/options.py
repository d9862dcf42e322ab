"""Common options of the commands, and how they report results and progress."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from concepts.environment import BACKBONE_VARIABLE, DATABASE_VARIABLE
from concepts.errors import StudioError

if TYPE_CHECKING:
    from rich.progress import Progress

    from ui.services.generation import ImageGenerator
    from ui.services.workflow import Workflow

LibraryOption = Annotated[
    str, typer.Option("--library", envvar="STUDIO_LIBRARY", help="The folder or fsspec URL of the concept library.")
]
BaseOption = Annotated[
    str,
    typer.Option(
        "--base", help="toybox, a diffusers folder, a .safetensors checkpoint, or a Hugging Face Hub model ID."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", envvar=DATABASE_VARIABLE, help="postgresql://USER:PASSWORD@HOST/NAME; SQLite if unset."),
]
StrengthOption = Annotated[
    list[str],
    typer.Option(
        "--strength",
        help="The strength of a concept, which multiplies its change of the weights; 1 if unset. NAME=0.8, or one for "
        "each component or block, with diffusers' names: NAME=unet:0.8,text_encoder:0.5,unet.up_blocks.1:0.2.",
    ),
]
BackboneOption = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        envvar=BACKBONE_VARIABLE,
        help="The CLIP model that scores: toybox-clip, an open_clip folder, or MODEL/WEIGHTS such as ViT-B-32/openai; "
        "that of the base's family if unset.",
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="The merge method: spectral, fedavg, gradient_fusion, gradient_fusion_preserving, custom_diffusion, "
        "orthogonal, ties, dare or svd; if unset, spectral if every concept's adapter is spectral_additive, else "
        "fedavg.",
    ),
]
AverageOption = Annotated[bool, typer.Option("--average", help="Divide all strengths by the number of concepts.")]
DensityOption = Annotated[
    float | None, typer.Option(help="For ties and dare: the fraction of entries to keep; 0.5 if unset.")
]
RidgeOption = Annotated[
    float | None, typer.Option(help="For gradient fusion: the weight of the ridge penalty; 0.0001 if unset.")
]
ContrastOption = Annotated[
    float | None,
    typer.Option(min=0, help="For contrast: how far outputs are pushed from other concepts'; 0.25 if unset."),
]
MergeRankOption = Annotated[
    int | None,
    typer.Option("--rank", min=1, help="For svd: the rank of the merged change; the concepts' highest rank if unset."),
]
DEFAULT_LIBRARY = "~/.concept-studio"


def writable(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    """The callback of an output option: an output that cannot be written is refused before any work begins.

    A path with a suffix is a file. Raises OSError, and StudioError, with the option, for a folder that this user
    cannot write to.
    """
    from concepts.storage import NotWritableError, check_writable
    from ui.services.error_messages import sentence

    try:
        if path is not None:
            check_writable(path.parent if path.suffix else path)
    except NotWritableError as error:
        raise StudioError(f"{sentence(error)} Give another place with {parameter.opts[0]}.") from error
    return path


errors = Console(stderr=True, highlight=False)
"""The console for stderr: everything but results."""


def report(document: Any, as_json: bool, show: Callable[[], None]) -> None:
    """Prints a command's result: the document as JSON, or whatever `show` prints for a person."""
    if as_json:
        json.dump(document, sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
    else:
        show()


def outline(document: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A document as indented text: a value beside its key, nested values below."""
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


def notify(text: str) -> None:
    """Prints a note on stderr."""
    errors.print(f"Note: {text}", markup=False, soft_wrap=True)


def pictures_in(paths: Sequence[Path]) -> list[Path]:
    """The pictures that files and folders mean; what a folder holds besides is told."""
    from concepts.images.picture_files import list_pictures

    listing = list_pictures(paths)
    if note := listing.note():
        notify(note)
    return listing.pictures


def progress_bar() -> "AbstractContextManager[Progress]":
    """The progress of a command, on stderr."""
    from ui.cli.progress import progress_on

    return progress_on(errors)


def workflow_of(library: str, base: str, **options: Any) -> "Workflow":
    """The workflow on this library and base, imported here since torch and diffusers take seconds to import."""
    from ui.services.workflow import Workflow

    return Workflow(library, base, **options)


def image_generator_of(library: str, base: str) -> "ImageGenerator":
    """What generates images with this library on this base, without what trains and scores."""
    from ui.services.generation import ImageGenerator

    return ImageGenerator(library, base)


def default_work_folder() -> Path:
    """Where long trainings of a base keep their checkpoints: the user's cache folder."""
    from concepts.storage import cache_folder

    return cache_folder() / "toybox"
