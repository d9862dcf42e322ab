"""Reads recipes stored in libraries, jobs and concept files, by this version and by earlier ones."""

from collections.abc import Mapping
from typing import Any

from studio.adapters.concept_file import TrainedConcept
from training.config.recipe import Recipe

RENAMED = {
    "accumulation": "gradient_accumulation_steps",
    "batch": "batch_size",
    "budget": "max_parameters",
    "clip": "max_grad_norm",
    "ema": "ema_decay",
    "flip": "random_flip",
    "masked": "masked_loss",
    "min_snr": "snr_gamma",
    "outside": "unmasked_weight",
    "patience": "early_stopping_patience",
    "precision": "mixed_precision",
    "preview_every": "validation_steps",
    "preview_prompt": "validation_prompt",
    "previews": "num_validation_images",
    "prior_pictures": "num_class_images",
    "prior_share": "prior_ratio",
    "restarts": "lr_num_cycles",
    "schedule": "lr_scheduler",
    "shuffle_captions": "shuffle_caption",
    "silence": "output_preservation_weight",
    "sites": "target_modules",
    "strangers": "random_token_ratio",
    "text_rate": "text_encoder_lr",
    "token_rate": "token_lr",
    "token_vectors": "num_vectors",
    "unet_rate": "unet_lr",
    "warmup": "lr_warmup_steps",
}
"""The present names of options, by their names before 0.1.0."""


def stored_recipe(values: Mapping[str, Any]) -> Recipe:
    """A stored recipe of any version. Raises pydantic's ValidationError for anything else."""
    return Recipe(**{RENAMED.get(name, name): value for name, value in values.items()})


def total_steps(concept: TrainedConcept) -> int:
    """The steps of all trainings, each continued by the next, that made a concept."""
    recipe = stored_recipe(concept.metadata["recipe"])
    return int(concept.metadata.get("total_steps", recipe.steps))
