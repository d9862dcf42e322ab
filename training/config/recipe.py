"""The training configuration: every option typed, explained and checked."""

from pydantic import model_validator

from training.config.recipe_fields import AdapterOptions, Loss, Optimization, Pictures, Tokens, Validation


class Recipe(Validation, Tokens, Pictures, Loss, Optimization, AdapterOptions):
    """How one concept is trained. Unknown options, invalid values and invalid combinations raise a validation error."""

    @model_validator(mode="after")
    def _fit_together(self) -> "Recipe":
        if self.optimizer == "prodigy" and (self.unet_lr or self.text_encoder_lr or self.token_lr):
            raise ValueError("leave unet_lr, text_encoder_lr and token_lr out: prodigy sets the learning rates itself")
        if (self.early_stopping_patience or self.keep_best) and not self.validation_steps:
            raise ValueError(
                "set validation_steps too: early_stopping_patience and keep_best use the scores of validation images"
            )
        if not self.train_token and (self.layerwise_token or self.freeze_token_after or self.token_lr):
            raise ValueError("leave layerwise_token, freeze_token_after and token_lr out: train_token is false")
        if self.num_prior_in_batch >= self.batch_size:
            raise ValueError(
                "choose a smaller prior_ratio or a larger batch_size: no picture of the concept is left in the batch"
            )
        if missing := next((text for text in self.templates if "{}" not in text), None):
            raise ValueError(f"write {{}} for the concept in each of templates: {missing!r} lacks it")
        if "{}" not in self.validation_prompt:
            raise ValueError(f"write {{}} for the concept in validation_prompt: {self.validation_prompt!r} lacks it")
        return self

    @property
    def num_prior_in_batch(self) -> int:
        """How many pictures of a batch are prior pictures."""
        return round(self.batch_size * self.prior_ratio)
