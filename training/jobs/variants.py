"""Variants: the same pictures trained with another adapter or rank, each a concept of its own, named as sweeps do.

A variant refers to its source's pictures. Libraries of before 0.1.0 hold copies of pictures instead, under names of the
same pattern; those are found by both.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from concepts import Concept, Library, LibraryError, read_picture
from concepts.storage import StoragePath, read_file
from studio.adapters import ADAPTERS
from studio.adapters.registry import method_named
from studio.models.families import OTHER, Family
from training.config.family_presets import presets_of
from training.config.recipe import Recipe
from training.config.recipe_resolution import adapter_config
from training.config.stored_recipe import stored_recipe
from training.jobs.manifest import SHORT

MAX_CANDIDATES = 200
"""Maximum number of concepts that are searched for copies of one."""
_METHODS = "|".join(ADAPTERS)
_NAME = re.compile(
    rf"(?P<stem>.+?)(?:-(?P<adapter>{_METHODS}))?(?:-r(?P<rank>\d+))?(?:-s(?P<seed>\d+))?", re.IGNORECASE
)


@dataclass(frozen=True)
class Training:
    """A training of `source`'s pictures whose result is stored under `name`; a variant has another name."""

    source: str
    name: str
    recipe: Recipe


def variant_name(name: str, changes: Mapping[str, Any]) -> str:
    """The name of a concept's variant: "rex" with another adapter and rank is "rex-lora-r4", and so is "rex-r4"."""
    stem, before = _parts(name)
    parts = {**before, **changes}
    return "-".join([stem, *(form.format(parts[key]) for key, form in SHORT.items() if parts.get(key) is not None)])


def varied_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with another adapter, rank or both.

    Another adapter has its default options, and its default size unless a rank or the recipe's max_parameters is set.

    Raises StudioError for an unknown adapter, and for a rank of one that has none.
    """
    given = {**recipe.model_dump(exclude_unset=True), **changes}
    if "rank" in changes:
        given["max_parameters"] = None
    if changes.get("adapter", recipe.adapter) != recipe.adapter:
        given |= {"rank": changes.get("rank"), "options": {}}
        config = adapter_config(Recipe(adapter=given["adapter"], rank=given["rank"]))
        if method_named(given["adapter"]).kinds(config) != ("attention",):  # the method fixes what it adapts
            given["target_modules"] = None
    return Recipe(**given)


class Variants:
    """The variants of concepts in one library; each concept's are loaded once.

    `family` is that of the base, whose standard preset a concept without a training has.
    """

    def __init__(self, library: Library, family: Family = OTHER):
        self._library, self._family = library, family
        self._found: dict[str, list[Concept]] = {}

    def of(self, name: str) -> list[Concept]:
        """The concept and all others that are trained on its pictures, by name."""
        concept = self._library.concept(name)
        if concept.id not in self._found:
            found = [*self._library.variants.of(name), *self._former_copies(concept)]
            self._found[concept.id] = sorted({each.id: each for each in found}.values(), key=lambda each: each.name)
        return self._found[concept.id]

    def _former_copies(self, concept: Concept) -> list[Concept]:
        """The variants of before 0.1.0: the same pictures, copied, under names that differ by what a sweep adds."""
        stem = _parts(concept.name)[0].lower()
        near = self._library.page(MAX_CANDIDATES, search=stem)
        names = [each.name for each in near if each.source_id is None and _parts(each.name)[0].lower() == stem]
        return [each for each in self._library.find_concepts(names, details=True) if same_pictures(each, concept)]

    def trained(self, name: str, wanted: Mapping[str, Any]) -> Concept | None:
        """The trained variant of a concept with the wanted adapter and rank; None if there is none.

        Without a wanted adapter it is the concept's own. Of several it is the one whose recipe differs least.
        """
        concept = self._library.concept(name)
        if concept.result:
            wanted = {"adapter": concept.result.adapter, **wanted}
        fits = [
            each for each in self.of(name)
            if each.result and all(getattr(each.result, key) == value for key, value in wanted.items())
        ]  # fmt: skip
        return min(fits, key=lambda each: self._differences(each, concept), default=None)

    def training(self, name: str, wanted: Mapping[str, Any]) -> Training:
        """The training of the wanted variant, with the concept's recipe otherwise."""
        concept = self._library.concept(name)
        own = self._recipe_of(concept)
        before = {"adapter": own.adapter, "rank": concept.result.rank if concept.result else own.rank}
        changes = {key: value for key, value in wanted.items() if value != before[key]}
        return Training(concept.name, variant_name(concept.name, changes), varied_recipe(own, wanted))

    def _recipe_of(self, concept: Concept) -> Recipe:
        """The recipe that a concept was trained with, else the standard preset."""
        known = concept.result.details.get("recipe") if concept.result else None
        return stored_recipe(known or presets_of(self._family)["standard"])

    def _differences(self, one: Concept, other: Concept) -> int:
        """How many options of their recipes differ."""
        recipes = self._recipe_of(one).model_dump(), self._recipe_of(other).model_dump()
        return sum(recipes[0][option] != recipes[1][option] for option in recipes[0])


def trainings_of(name: str, recipe: Recipe, adapters: Sequence[str], ranks: Sequence[int]) -> list[Training]:
    """A concept's training, and variants of it for every further adapter at every rank, where it has one."""
    found = {}
    for adapter in (recipe.adapter, *adapters):
        has_rank = hasattr(method_named(adapter).Config(), "rank")
        for rank in (recipe.rank, *ranks) if has_rank and ranks else (None,):
            wanted = {"adapter": adapter, **({"rank": rank} if rank else {})}
            changes = {key: value for key, value in wanted.items() if value != getattr(recipe, key)}
            variant = variant_name(name, changes) if changes else name
            found[variant.lower()] = Training(name, variant, varied_recipe(recipe, wanted) if changes else recipe)
    return [*found.values()]


def same_pictures(one: Concept, other: Concept) -> bool:
    """Whether two concepts have one class word and the same pictures, in the same order."""
    if (one.source_id or one.id) == (other.source_id or other.id):
        return True
    if not one.pictures or one.class_word != other.class_word or len(one.pictures) != len(other.pictures):
        return False
    return all(_same_picture(*pair) for pair in zip(one.pictures, other.pictures, strict=True))


def refuse_other_pictures(library: Library, source: str, name: str) -> None:
    """Raises LibraryError where a concept with other pictures has the name of a variant of `source`."""
    found = library.find_concepts([name])
    if found and not same_pictures(found[0], library.concept(source)):
        raise LibraryError(
            f'The library has another concept "{found[0].name}", the name of this training of "{source}". '
            "Rename that concept first."
        )


def add_variant(library: Library, source: str, name: str) -> Concept:
    """The variant of this name, which is added with the pictures of `source` if it is missing."""
    found = library.find_concepts([name])
    return found[0] if found else library.variants.add(source, name)


def _parts(name: str) -> tuple[str, dict[str, str | None]]:
    """A name without a sweep's suffixes, and the suffixes' values."""
    match = _NAME.fullmatch(name)
    assert match, "the stem matches any name"
    parts = match.groupdict()
    return parts.pop("stem"), parts


def _same_picture(one: StoragePath, other: StoragePath) -> bool:
    data = read_file(one), read_file(other)
    if data[0] == data[1]:
        return True
    pictures = [read_picture(each, "picture") for each in data]
    return pictures[0].size == pictures[1].size and pictures[0].tobytes() == pictures[1].tobytes()
