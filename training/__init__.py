"""The training backend: concepts of a library trained on a base, one by one or by workers from a queue.

`train` trains one concept by a `Recipe` and stores the result; `cost` is what a recipe trains. `Worker` trains the jobs
that `Library.jobs` holds. Names are imported from their modules when they are first used, and torch with them.
"""

from typing import TYPE_CHECKING

from concepts.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from training.config.presets import PRESETS
    from training.config.recipe import Recipe
    from training.engine.trainer import Progress, TrainingStopped, train_concept
    from training.jobs.library_training import Scores, Trained
    from training.jobs.train_with_columns import cost, train
    from training.jobs.worker import Worker
else:
    __getattr__, __dir__ = lazy_attributes(
        __name__,
        {
            "training.config.presets": ("PRESETS",),
            "training.config.recipe": ("Recipe",),
            "training.engine.trainer": ("Progress", "TrainingStopped", "train_concept"),
            "training.jobs.library_training": ("Scores", "Trained"),
            "training.jobs.train_with_columns": ("cost", "train"),
            "training.jobs.worker": ("Worker",),
        },
    )

__all__ = [
    "PRESETS", "Progress", "Recipe", "Scores", "Trained", "TrainingStopped", "Worker", "cost", "train", "train_concept",
]  # fmt: skip
