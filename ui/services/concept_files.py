"""Concepts that are given by a file instead of a name."""

from pathlib import Path

from concepts import UnavailableError
from concepts.errors import StudioError
from concepts.names import NAME
from concepts.storage import read_file, storage_path
from studio.adapters.concept_file import TrainedConcept, from_bytes

_KINDS = "a result in the library, or what studio merge wrote"


def is_concept_file(name: str) -> bool:
    """Whether this is the path of a concept's file rather than a name."""
    return name.lower().endswith(".safetensors")


def read_concept_file(name: str) -> TrainedConcept:
    """A concept's file. Raises StudioError, with what the file is instead, where it is none."""
    try:
        data = read_file(storage_path(name))
    except UnavailableError as error:
        raise StudioError(f"{name} cannot be read. Check the path: a concept's file is {_KINDS}.") from error
    try:
        return from_bytes(data, name)
    except StudioError as error:
        from studio.formats.other_families import not_a_concept  # here, since generating otherwise needs no formats

        if said := not_a_concept(name, data):
            raise StudioError(said) from error
        raise


def refuse_other_paths(name: str) -> None:
    """Raises StudioError for a folder, and for a file of another kind than a concept's, where a concept is needed."""
    path = Path(name)
    if NAME.fullmatch(name) or not path.exists():
        return
    if path.is_dir():
        raise StudioError(
            f"{name} is a folder, not a concept. If PEFT wrote it, add it to the library first: studio import {name} "
            "--name NAME."
        )
    raise StudioError(
        f"{name} is not a .safetensors file. Give the name of a concept of the library, or a concept's file."
    )
