"""The training configuration: every option typed, explained and checked."""

from pydantic import model_validator

from training.config.loss_fields import Loss
from training.config.recipe_fields import AdapterOptions, Optimization, Pictures, Tokens, Validation


class Recipe(Validation, Tokens, Pictures, Loss, Optimization, AdapterOptions):
    """How one concept is trained. Unknown options, invalid values and invalid combinations raise a validation error."""

    @model_validator(mode="after")
    def _fit_together(self) -> "Recipe":
        if self.optimizer == "prodigy" and (
            self.unet_lr or self.text_encoder_lr or self.token_lr or self.loraplus_lr_ratio
        ):
            raise ValueError(
                "prodigy sets the learning rates itself, so unet_lr, text_encoder_lr and token_lr must be unset"
            )
        if (self.early_stopping_patience or self.keep_best) and not self.validation_steps:
            raise ValueError(
                "early_stopping_patience and keep_best need the scores of validation images, so validation_steps "
                "must be set"
            )
        if self.num_validation_pictures and not (self.validation_steps or self.save_every_n_steps):
            raise ValueError("num_validation_pictures needs validation_steps or save_every_n_steps, which say when")
        if self.noise_offset and self.multires_noise_iterations:
            raise ValueError("noise_offset and multires_noise_iterations exclude each other; set one of them")
        if not self.train_token and (self.layerwise_token or self.freeze_token_after or self.token_lr):
            raise ValueError("train_token is false, so layerwise_token, freeze_token_after and token_lr must be unset")
        if self.num_prior_in_batch >= self.batch_size:
            raise ValueError(
                "the batch has no picture of the concept; choose a smaller prior_ratio or a larger batch_size"
            )
        if missing := next((text for text in self.templates if "{}" not in text), None):
            raise ValueError(f"the template {missing!r} has no {{}}, which stands for the token")
        if "{}" not in self.validation_prompt:
            raise ValueError(f"validation_prompt {self.validation_prompt!r} has no {{}}, which stands for the token")
        return self

    @property
    def num_prior_in_batch(self) -> int:
        """How many samples of a batch do not name the concept."""
        return round(self.batch_size * self.prior_ratio)
