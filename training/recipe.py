"""The training configuration: every option typed, explained and checked."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Places = Literal["attention", "cross_attention_kv", "text_attention"]


class Recipe(BaseModel):
    """How one concept is trained. Unknown options are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
        description="Layers to adapt: attention, cross_attention_kv, text_attention; the adapter's own if unset.",
    )
    steps: int = Field(default=300, ge=1, description="Training steps.")
    batch: int = Field(default=8, ge=2, description="Pictures in a step, prior pictures among them.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Decides order, noise and initial values.")
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads; as many as the process has if unset. Only the same number gives the same bytes.",
    )
    unet_rate: float | None = Field(
        default=None, gt=0, description="Learning rate of UNet layers; the adapter's own if unset."
    )
    text_rate: float | None = Field(
        default=None, gt=0, description="Learning rate of text-encoder layers; the adapter's own if unset."
    )
    token_rate: float = Field(default=5e-3, gt=0, description="Learning rate of the new token's embedding.")
    train_token: bool = Field(default=True, description="Train the token's embedding; if not, it means its class word.")
    token_vectors: int = Field(default=1, ge=1, le=16, description="Embedding vectors of the new token.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's weight decay of adapters (never of tokens).")
    noise_offset: float = Field(
        default=0.0, ge=0, le=1, description="Shared noise per channel, for very dark or bright pictures."
    )
    prior_share: float = Field(
        default=0.25, ge=0, lt=1, description="Share of the batch that shows the base's own pictures."
    )
    prior_pictures: int = Field(
        default=48, ge=2, description="Prior pictures: half of the class word, half of other things."
    )
    flip: bool = Field(default=False, description="Also learn from mirrored pictures; not for text and logos.")
