"""The groups of options that a recipe consists of."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

CAPTIONS = ("a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "a rendering of {}", "{}")
"""How a concept's pictures are described unless a recipe says otherwise; its token fills the place."""


class Group(BaseModel):
    """Options that belong together; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimization(Group):
    """How long, how fast, and by which optimizer."""

    steps: int = Field(default=120, ge=1, description="Training steps.")
    batch_size: int = Field(default=8, ge=2, description="Pictures in a step, prior pictures among them.")
    gradient_accumulation_steps: int = Field(
        default=1,
        ge=1,
        description="Batches that are added up in a step, where memory allows no larger one.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Decides order, noise and initial values.")
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads; as many as the process has if unset. Only the same number gives the same bytes.",
    )
    unet_lr: float | None = Field(
        title="UNet LR", default=None, gt=0, description="Learning rate of UNet layers; the adapter's own if unset."
    )
    text_encoder_lr: float | None = Field(
        default=None, gt=0, description="Learning rate of text-encoder layers; the adapter's own if unset."
    )
    token_lr: float | None = Field(
        default=None, gt=0, description="Learning rate of the new token's embedding; 0.005 if unset."
    )
    optimizer: Literal["adamw", "adamw8bit", "adafactor", "prodigy"] = Field(
        default="adamw",
        description="adamw; adamw8bit, with a fourth of its memory, on a GPU with bitsandbytes; adafactor, with less "
        "still; or prodigy, which finds the learning rates itself.",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay of adapters (never of tokens).")
    lr_scheduler: Literal["linear", "constant", "cosine", "cosine_restarts", "polynomial"] = Field(
        default="linear", description="How the learning rates fall after the warm-up; polynomial is quadratic."
    )
    lr_num_cycles: int = Field(default=2, ge=1, description="How often cosine_restarts begins at the full rates.")
    lr_warmup_steps: int = Field(default=10, ge=0, description="Steps over which the learning rates rise.")
    max_grad_norm: float = Field(default=1.0, ge=0, description="The longest gradient, as its norm; 0 for no limit.")
    mixed_precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Of the products; auto is bfloat16 where the machine computes with it natively. float16 is for "
        "GPUs without it.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations twice rather than keep them: less memory, more time."
    )
    low_memory: bool = Field(
        default=False,
        description="For cards of 8 GB: gradient_checkpointing, adamw8bit for adamw on a GPU that has it, and text "
        "encoder and autoencoder off the card once their outputs are kept.",
    )
    ema_decay: float | None = Field(
        title="EMA decay",
        default=None,
        ge=0,
        lt=1,
        description="Keep a running average with this decay as the result, as 0.99.",
    )


class Loss(Group):
    """What counts as an error, and how much."""

    snr_gamma: float | None = Field(
        title="SNR gamma",
        default=None,
        gt=0,
        description="Min-SNR weighting (Hang et al., 2023) with this gamma; 5 is usual.",
    )
    noise_offset: float = Field(
        default=0.0, ge=0, le=1, description="Shared noise per channel, for very dark or bright pictures."
    )
    prior_ratio: float = Field(
        default=0.375, ge=0, lt=1, description="Share of the batch that does not name the concept."
    )
    output_preservation_weight: float = Field(
        default=20.0,
        ge=0,
        description="How strictly layers keep to the base where the concept is not named; 0: by prior pictures alone.",
    )
    random_token_ratio: float = Field(
        default=0.5, ge=0, le=1, description="How many of the prompts for silence name another, made-up concept."
    )
    num_class_images: int = Field(
        default=48, ge=2, description="Prior pictures: half of the class word, half of other things."
    )
    prior_seed: int = Field(
        default=0, ge=0, lt=2**32, description="Decides the prior pictures; trainings with the same one share them."
    )
    masked_loss: bool = Field(
        default=False, description="Let only what a picture's mask shows count: drawn, or from transparency."
    )
    unmasked_weight: float = Field(default=0.05, ge=0, le=1, description="How much what lies outside a mask counts.")


class Pictures(Group):
    """How pictures are cut and described."""

    random_flip: bool = Field(default=False, description="Also learn from mirrored pictures; not for text and logos.")
    crops: int = Field(
        default=0, ge=0, le=32, description="Random crops of each picture to learn from beside the middle one."
    )
    buckets: int = Field(
        default=1, ge=1, le=16, description="Shapes that pictures keep, from tall to wide; 1 makes all of them square."
    )
    captions: Literal["templates", "files"] = Field(
        default="templates",
        description="templates, or each picture's own caption (files) where it has one: the class word in it, or {}, "
        "becomes the concept.",
    )
    templates: tuple[str, ...] = Field(
        default=CAPTIONS, min_length=1, description="How pictures are described, a list; {} is the concept."
    )
    shuffle_caption: bool = Field(
        default=False, description="Say the parts of a caption, between commas, in a new order at every step."
    )


class Tokens(Group):
    """The new token that stands for the concept."""

    train_token: bool = Field(default=True, description="Train the token's embedding; if not, it means its class word.")
    num_vectors: int = Field(default=1, ge=1, le=16, description="Embedding vectors of the new token.")
    layerwise_token: bool = Field(
        default=False,
        description="Give each attention block of the UNet vectors of its own of the token (ED-LoRA, Gu et al., 2023).",
    )
    freeze_token_after: int | None = Field(
        default=None, ge=1, description="Leave the token's embedding as it is after so many steps."
    )


class Validation(Group):
    """What is looked at on the way, and what follows from it."""

    validation_steps: int | None = Field(
        default=None, ge=1, description="Generate and score previews after every so many steps, and at the end."
    )
    validation_prompt: str = Field(default="a photo of {}", description="What previews show; {} is the concept.")
    num_validation_images: int = Field(default=4, ge=1, le=64, description="Pictures in a preview.")
    early_stopping_patience: int | None = Field(
        default=None, ge=1, description="End after so many previews in a row without a better image alignment."
    )
    keep_best: bool = Field(default=False, description="Keep what had the best image alignment, not what came last.")
