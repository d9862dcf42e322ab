"""The training configuration: every option typed, explained and checked."""

from typing import Any, Literal

from pydantic import Field, model_validator

from training.recipe_parts import Descent, Group, Loss, Pictures, Tokens, Watching

Places = Literal[
    "attention", "attention_kv", "cross_attention_kv", "text_attention", "feed_forward", "up_convolution",
    "inner_convolution", "convolution",
]  # fmt: skip
"""studio.sites.CHOICES, for the type checker."""


class Adapted(Group):
    """The method, its size, and the layers that it adapts."""

    adapter: str = Field(default="spectral_additive", description="The method that adapts the layers.")
    rank: int | None = Field(
        default=None,
        ge=1,
        description="The adapter's rank: more adapts more, and makes a larger file; the adapter's own if unset.",
    )
    budget: int | None = Field(
        default=None, ge=1, description="In place of a rank: train at most so many of the adapter's numbers."
    )
    options: dict[str, Any] = Field(default={}, description="Further options of the adapter, by name.")
    sites: tuple[Places, ...] | None = Field(
        default=None,
        min_length=1,
        description="Layers to adapt, a list: attention, or only attention_kv, cross_attention_kv or text_attention; "
        "feed_forward; up_convolution, in the up blocks that attend to the prompt, inner_convolution in all blocks, "
        "or convolution with the first and last; if unset the base's own, which is attention unless the base says "
        "otherwise.",
    )


class Recipe(Watching, Tokens, Pictures, Loss, Descent, Adapted):
    """How one concept is trained. Unknown options are refused, and so are impossible values and pairs of them."""

    @model_validator(mode="after")
    def _fit_together(self) -> "Recipe":
        if self.optimizer == "prodigy" and (self.unet_rate or self.text_rate or self.token_rate):
            raise ValueError("leave unet_rate, text_rate and token_rate out: prodigy finds the rates itself")
        if (self.patience or self.keep_best) and not self.preview_every:
            raise ValueError("set preview_every too: patience and keep_best go by the scores of the previews")
        if not self.train_token and (self.layerwise_token or self.freeze_token_after or self.token_rate):
            raise ValueError("leave layerwise_token, freeze_token_after and token_rate out: train_token is false")
        if self.round_prior >= self.batch:
            raise ValueError("choose a smaller prior_share or a larger batch: no place is left for the concept")
        if missing := next((text for text in self.templates if "{}" not in text), None):
            raise ValueError(f"write {{}} where the concept stands in each of templates: {missing!r} lacks it")
        if "{}" not in self.preview_prompt:
            raise ValueError(f"write {{}} where the concept stands in preview_prompt: {self.preview_prompt!r} lacks it")
        return self

    @property
    def round_prior(self) -> int:
        """How many of a batch's pictures are prior ones."""
        return round(self.batch * self.prior_share)
