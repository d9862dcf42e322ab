from typing import Any, get_args

import pytest
from pydantic import ValidationError

from studio.layers.target_modules import CHOICES
from training.config.recipe import Recipe
from training.config.recipe_fields import Places


def test_a_recipe_without_options_is_valid_and_survives_json():
    recipe = Recipe()
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert Recipe(options={"alpha": 4}).options == {"alpha": 4}


def test_every_option_has_a_help_text():
    for name, field in Recipe.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_a_recipe_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().steps = 5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stepps", 5),
        ("steps", 0),
        ("steps", "many"),
        ("steps", 2.5),
        ("steps", None),
        ("rank", 0),
        ("rank", "8 or so"),
        ("batch_size", 1),
        ("seed", -1),
        ("seed", 2**64),
        ("unet_lr", 0),
        ("text_encoder_lr", -1e-3),
        ("token_lr", float("nan")),
        ("num_vectors", 0),
        ("num_vectors", 17),
        ("weight_decay", -0.1),
        ("noise_offset", 1.5),
        ("prior_ratio", 1),
        ("num_class_images", 1),
        ("random_flip", "perhaps"),
        ("options", 5),
        ("optimizer", "sgd"),
        ("lr_scheduler", "sudden"),
        ("mixed_precision", "int4"),
        ("gradient_accumulation_steps", 0),
        ("max_grad_norm", -1),
        ("ema_decay", 1),
        ("snr_gamma", 0),
        ("sites", []),
        ("sites", ["everything"]),
        ("buckets", 0),
        ("crops", -1),
        ("captions", "poems"),
        ("freeze_token_after", 0),
        ("validation_steps", 0),
        ("early_stopping_patience", 0),
        ("unmasked_weight", 2),
        ("threads", 0),
    ],
)
def test_what_is_unknown_or_out_of_range_is_refused(name: str, value: Any):
    with pytest.raises(ValidationError, match=name):
        Recipe(**{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "prodigy", "unet_lr": 1e-3}, "prodigy sets the learning rates itself"),
        ({"early_stopping_patience": 3}, "validation_steps must be set"),
        ({"keep_best": True}, "validation_steps must be set"),
        ({"batch_size": 2, "prior_ratio": 0.9}, "the batch has no picture of the concept"),
        ({"templates": ["a photo"]}, "the template 'a photo' has no {}"),
        ({"validation_prompt": "a dog"}, "validation_prompt 'a dog' has no {}"),
        ({"train_token": False, "layerwise_token": True}, "train_token is false"),
        ({"train_token": False, "freeze_token_after": 5}, "train_token is false"),
    ],
)
def test_invalid_combinations_of_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        Recipe(**options)


def test_a_recipe_may_choose_every_kind_of_matrices():
    assert get_args(Places) == CHOICES
