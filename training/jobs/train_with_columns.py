"""Training one concept of a library, with the singular columns that it needs, and what that costs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from concepts import Concept, Library
from studio.adapters.concept_file import TrainedConcept
from studio.adapters.cost import Cost
from studio.adapters.cost import cost as adapter_cost
from studio.metrics.clip import Scorer, load_scorer, scorer_of
from studio.models.base_model import Base
from training.config.recipe import Recipe
from training.config.recipe_resolution import adapter_config, kinds_of_recipe, resolve_recipe
from training.engine.trainer import Progress, TrainingStopped, never_stop
from training.jobs.library_training import Trained, columns_for, refuse_without_pictures, train_in_library

_cached_scorer = cache(load_scorer)


def train(
    library: Library,
    base: Base,
    name: str,
    recipe: Recipe,
    scorer: Callable[[], Scorer] | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    start: TrainedConcept | None = None,
    column: int | None = None,
    stop: Callable[[], bool] = never_stop,
) -> Trained:
    """Trains a concept, generates previews, scores them and stores the result, which replaces an earlier one.

    `scorer` gives the model that scores; by default it is that of the base's family. With `start`, an earlier
    training of this concept, the training goes on from there. `column` asks for the singular columns from there, in
    place of the lowest free ones. A training that was stopped by `stop`, which raises TrainingStopped, or that was
    killed goes on where it was when it is asked for in the same way again. Raises LibraryError for a concept that is
    unknown, has no pictures or waits in the queue, and StudioError for a recipe that does not fit the base.
    """
    concept = library.concept(name)
    refuse_without_pictures(concept)
    library.jobs.refuse_waiting(name)
    recipe = resolve_recipe(base, recipe)
    scorer = scorer or (lambda: _cached_scorer(scorer_of(base.family)))
    with _columns(library, base, concept, recipe, start, column) as first:
        try:
            return train_in_library(library, base, scorer, concept, recipe, first, on_progress, start, stop)
        except TrainingStopped as caught:  # in here, so that the concept keeps its columns until it goes on
            stopped = caught
    raise stopped


@contextmanager
def _columns(
    library: Library, base: Base, concept: Concept, recipe: Recipe, start: TrainedConcept | None, column: int | None
) -> Iterator[int]:
    """The first of the concept's columns, which it keeps if the training ends well; 0 where it needs none."""
    wanted = None if start else columns_for(base, recipe, column)
    if wanted is None:
        yield 0
        return
    with library.columns_for_result(
        concept.name, base.decomposition.fingerprint, wanted.width, wanted.capacity, column, wanted.space
    ) as block:
        yield block.start


def cost(base: Base, recipe: Recipe) -> Cost:
    """What a recipe trains on this base, and the size of its file. Raises StudioError for what does not fit."""
    recipe = resolve_recipe(base, recipe)
    config = adapter_config(recipe)
    return adapter_cost(recipe.adapter, config, base.sites_of(kinds_of_recipe(recipe, config)))
