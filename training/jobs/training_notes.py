"""What a person should know before trainings of a library's concepts begin."""

from collections.abc import Iterable

from concepts import Library
from training.config.recipe import Recipe
from training.data.captions import caption_notes


def training_notes(library: Library, trainings: Iterable[tuple[str, Recipe]]) -> list[str]:
    """Notes on how the captions of concepts, each with its recipe, will be read; each is told once."""
    recipes = {name.lower(): recipe for name, recipe in trainings}
    found = library.find_concepts(list(recipes))
    notes = [note for each in found for note in caption_notes(each.captions, each.name, recipes[each.name.lower()])]
    return list(dict.fromkeys(notes))
