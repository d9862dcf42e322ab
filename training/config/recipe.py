"""The training configuration: every option typed, explained and checked."""

from typing import Any, Literal

from pydantic import Field, model_validator

from training.config.recipe_fields import Group, Loss, Optimization, Pictures, Tokens, Validation

Places = Literal[
    "attention", "attention_kv", "cross_attention_kv", "text_attention", "feed_forward", "up_convolution",
    "inner_convolution", "convolution",
]  # fmt: skip
"""studio.layers.sites.CHOICES, for the type checker."""


class AdapterOptions(Group):
    """The method, its size, and the layers that it adapts."""

    adapter: str = Field(default="spectral_additive", description="The method that adapts the layers.")
    rank: int | None = Field(
        default=None,
        ge=1,
        description="The adapter's rank; more parameters and a larger file if higher; the adapter's default if unset.",
    )
    max_parameters: int | None = Field(
        default=None, ge=1, description="Instead of a rank: the maximum number of the adapter's trained parameters."
    )
    options: dict[str, Any] = Field(default={}, description="Further options of the adapter, by name.")
    target_modules: tuple[Places, ...] | None = Field(
        default=None,
        min_length=1,
        description="Layers to adapt, a list: attention, or only attention_kv, cross_attention_kv or text_attention; "
        "feed_forward; up_convolution, in the up blocks that attend to the prompt, inner_convolution in all blocks, "
        "or convolution with the first and last; the base's default if unset, which is attention unless its folder "
        "sets another.",
    )


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
