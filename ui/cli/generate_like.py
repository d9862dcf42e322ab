"""The settings of `studio generate`: those of a picture (--like), and which options were given in their place."""

from pathlib import Path
from typing import Any

import typer

from concepts.errors import StudioError
from ui.cli.options import notify

_OPTIONS = {
    "concept": ("concepts",), "strength": ("strengths",), "region": ("regions", "auto_regions"),
    "control_model": ("control",), "conditioning_scale": ("control",),
}  # fmt: skip
"""Parameters of the command that have other names in a GenerationRequest."""


def given_fields(context: typer.Context) -> list[str]:
    """The fields of a request for which an option was given, rather than left to its default."""
    names = [name for name in context.params if _was_given(context, name)]
    return [field for name in names for field in _OPTIONS.get(name, (name,))]


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


_OF_A_START_IMAGE = ("mask", "denoising_strength", "mask_blur")
_FILES = {"image": "start image", "mask": "mask"}


def refuse_lost(context: typer.Context, settings: dict[str, Any]) -> None:
    """Raises StudioError for an option of a start image where there is none."""
    lost = [name for name in _OF_A_START_IMAGE if _was_given(context, name)]
    if lost and settings.get("image") is None:
        raise StudioError(f"--{lost[0].replace('_', '-')} is for a start image. Give one with --image FILE.")


def settings_like(file: Path, given: dict[str, Any]) -> dict[str, Any]:
    """A picture's settings with those that are given in their place. What is not used of them is told.

    Raises StudioError where the start image or the mask is not there: a picture keeps only the names of their files.
    """
    from concepts.images.picture_files import existing

    found = _settings_of(file)
    if "image" in given and "mask" not in given and found.pop("mask", None):
        notify(f"The mask of {file.name} is not used, as another start image is given. --mask FILE gives a mask.")
    settings = {**found, **given}
    if settings.get("denoising_strength") is not None and settings.get("image") is None:
        notify(f"{file.name} was generated from a start image, which it does not name. --image FILE gives it.")
    for name, called in _FILES.items():
        if settings.get(name) and name not in given and not existing(Path(settings[name])):
            raise StudioError(
                f"{file.name} was generated with the {called} {settings[name]}, which is not in this folder. Give it "
                f"with --{name} FILE."
            )
    return settings


def _settings_of(file: Path) -> dict[str, Any]:
    """A picture's settings; what A1111 set and has no place here is told."""
    from ui.services.gallery import settings_of

    request, ignored = settings_of(file)
    if ignored:
        notify(f"These settings of {file.name} are not used: {', '.join(ignored)}.")
    return request.model_dump(exclude_unset=True)
