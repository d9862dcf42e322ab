"""Manifests of batches: many concepts, the options that they share, and sweeps, as one TOML file."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from concepts.errors import StudioError, shown
from concepts.names import check_words
from concepts.text_files import read_text
from training.config.recipe import Recipe

SHORT = {"adapter": "{}", "rank": "r{}", "seed": "s{}"}
"""The suffixes of a concept's name for the values of a sweep."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Group(_Strict):
    """One concept, or with a glob one for each matching folder."""

    pictures: str = Field(description="A folder, or a glob of folders, relative to the manifest's folder.")
    class_word: str = Field(alias="class", description="Its class word, known to the base.")
    name: str | None = Field(default=None, description="The concept's name; the folder's name if unset.")
    recipe: dict[str, Any] = Field(default={}, description="Options that differ from the shared ones.")


class Sweep(_Strict):
    """Every concept is trained once for each combination of these values."""

    adapter: tuple[str, ...] = Field(default=(), description="Methods.")
    rank: tuple[int, ...] = Field(default=(), description="Ranks.")
    seed: tuple[int, ...] = Field(default=(), description="Seeds.")

    def variants(self) -> list[dict[str, Any]]:
        """The combinations, as options of the recipe."""
        axes = {key: values for key, values in self.model_dump().items() if values}
        return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


class Manifest(_Strict):
    """A batch. Unknown keys raise a validation error."""

    base: str = Field(default="toybox", description="The base: toybox, a diffusers folder, or a model on the hub.")
    priority: int = Field(default=0, description="Higher priorities are trained first, then first in, first out.")
    max_attempts: int = Field(default=3, ge=1, description="Maximum number of attempts of a job whose worker dies.")
    recipe: dict[str, Any] = Field(default={}, description="Options of the recipe that all concepts share.")
    sweep: Sweep = Sweep()
    concepts: tuple[Group, ...] = Field(min_length=1, description="The concepts, in the order of their columns.")


@dataclass(frozen=True)
class Run:
    """One training of a batch: the concept to add, the folder of its pictures, and the recipe."""

    name: str
    class_word: str
    pictures: Path
    recipe: Recipe


def read_manifest(path: Path) -> Manifest:
    """The manifest in a TOML file. Raises StudioError, with the key, for an invalid one."""
    try:
        return Manifest.model_validate(tomllib.loads(read_text(path, "The manifest")))
    except tomllib.TOMLDecodeError as error:
        raise StudioError(f"The manifest {path} could not be read ({error}). Give a TOML file.") from error
    except ValidationError as error:
        raise _refusal(str(path), error) from error


def runs_of(manifest: Manifest, folder: Path) -> list[Run]:
    """Every training of a batch whose manifest is in `folder`, in the manifest's order; the sweep varies fastest."""
    runs = [
        _run(manifest, group, pictures, variant)
        for group in manifest.concepts
        for pictures in _folders(group, folder)
        for variant in manifest.sweep.variants()
    ]
    names = [run.name.lower() for run in runs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise StudioError(f'The name "{twice}" is used twice. Give each concept its own name.')
    return runs


def _folders(group: Group, folder: Path) -> Iterator[Path]:
    given = Path(group.pictures).expanduser()
    root, pattern = (Path(given.anchor), str(given.relative_to(given.anchor))) if given.anchor else (folder, str(given))
    found = sorted(path for path in root.glob(pattern) if path.is_dir())
    if not found:
        raise StudioError(f'pictures = "{group.pictures}" matches no folder in {folder}. Correct it.')
    if group.name and len(found) > 1:
        raise StudioError(
            f'{group.pictures} matches {len(found)} folders, each of which is a concept. Leave name = "{group.name}" '
            "out."
        )
    yield from found


def _run(manifest: Manifest, group: Group, pictures: Path, variant: dict[str, Any]) -> Run:
    swept = [SHORT[key].format(value) for key, value in variant.items() if len(getattr(manifest.sweep, key)) > 1]
    name = "-".join([group.name or pictures.name, *swept])
    check_words(name, group.class_word)
    # The resulting file must not depend on the machine's number of cores
    given = {"threads": 1, **manifest.recipe, **group.recipe, **variant}
    try:
        return Run(name, group.class_word, pictures, Recipe(**given))
    except ValidationError as error:
        raise _refusal(f"the recipe of {name}", error) from error


def _refusal(place: str, error: ValidationError) -> StudioError:
    first = error.errors()[0]
    return StudioError(f"Invalid {shown('.'.join(map(str, first['loc'])))} in {place}: {first['msg'].lower()}.")
