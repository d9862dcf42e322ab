"""The groups of options of a recipe."""

from typing import Any, Literal

from pydantic import Field

from training.config.caption_templates import CAPTIONS
from training.config.option_group import Group

Places = Literal[
    "attention", "attention_kv", "cross_attention_kv", "text_attention", "feed_forward", "feed_forward_out",
    "up_convolution", "inner_convolution", "convolution",
]  # fmt: skip
"""studio.layers.target_modules.CHOICES, for the type checker."""


class Optimization(Group):
    """Steps, batch size, learning rates and the optimizer."""

    steps: int = Field(default=120, ge=1, description="Training steps.")
    batch_size: int = Field(default=8, ge=2, description="Batch size over all processes, class images included.")
    gradient_accumulation_steps: int = Field(
        default=1,
        ge=1,
        description="Batches whose gradients are accumulated in a training step, for a larger effective batch.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed.")
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads; those of the process if unset. Results are identical only for the same number.",
    )
    unet_lr: float | None = Field(
        title="UNet LR",
        default=None,
        gt=0,
        description="Learning rate of UNet layers; if unset, the adapter's for the base's family.",
    )
    text_encoder_lr: float | None = Field(
        default=None,
        gt=0,
        description="Learning rate of text encoder layers; if unset, the adapter's for the base's family.",
    )
    token_lr: float | None = Field(
        default=None,
        gt=0,
        description="Learning rate of the new token's embedding; if unset, 0.005 for toybox and 0.001 for Stable "
        "Diffusion.",
    )
    loraplus_lr_ratio: float | None = Field(
        title="LoRAplus LR ratio",
        default=None,
        gt=0,
        description="LoRA+: the factor B, which starts at zero, is trained at so many times the learning rate; 16 is "
        "common. For lora, dora and loha.",
    )
    optimizer: Literal["adamw", "adamw8bit", "adafactor", "prodigy"] = Field(
        default="adamw",
        description="adamw; adamw8bit, which needs a GPU and bitsandbytes; adafactor, which needs the least memory; or "
        "prodigy, which sets the learning rates itself.",
    )
    weight_decay: float = Field(
        default=0.01, ge=0, description="Weight decay of the adapter's parameters; tokens have none."
    )
    lr_scheduler: Literal["linear", "constant", "cosine", "cosine_restarts", "polynomial"] = Field(
        default="linear",
        description="Learning rate schedule after the warm-up; cosine_restarts is diffusers' cosine_with_restarts, "
        "and polynomial has the power 2.",
    )
    lr_num_cycles: int = Field(default=2, ge=1, description="Number of cycles of cosine_restarts.")
    lr_warmup_steps: int = Field(default=10, ge=0, description="Steps of linear warm-up of the learning rates.")
    max_grad_norm: float = Field(default=1.0, ge=0, description="Maximum gradient norm; 0 disables clipping.")
    mixed_precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Data type of autocast: auto is bfloat16 where the device supports it natively, else float32. "
        "float16 is for GPUs without bfloat16.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Recompute activations in the backward pass instead of storing them: less memory, more time.",
    )
    low_memory: bool = Field(
        default=False,
        description="For GPUs with 8 GB: gradient_checkpointing, adamw8bit instead of adamw where available, and text "
        "encoder and autoencoder moved to the CPU once their outputs are cached.",
    )
    ema_decay: float | None = Field(
        title="EMA decay",
        default=None,
        ge=0,
        lt=1,
        description="Keep the exponential moving average of the parameters with this decay, such as 0.99; off if "
        "unset.",
    )


class Pictures(Group):
    """How pictures are cropped and captioned. They are resized to the base's own resolution, which cannot be set."""

    random_flip: bool = Field(
        default=False, description="Also train on horizontally flipped copies of the pictures; not for text and logos."
    )
    crops: int = Field(
        default=0, ge=0, le=32, description="Number of random crops per picture, in addition to the centre crop."
    )
    buckets: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Number of aspect ratio buckets, from tall to wide; 1 crops all pictures to squares.",
    )
    captions: Literal["templates", "files"] = Field(
        default="files",
        description="files: each picture's own caption where it has one, else a template; or templates alone. In a "
        "caption, {} or else the class word is replaced by the token; a caption with neither gets the token in front.",
    )
    templates: tuple[str, ...] = Field(
        default=CAPTIONS,
        min_length=1,
        description="Caption templates; {} stands for the token. For the class word style the default is 'a painting "
        "in the style of {}' and the like.",
    )
    prompt_syntax: Literal["plain", "a1111"] = Field(
        default="plain",
        description="How captions are read: plain, or a1111: (a cat:1.3) weighs words, BREAK begins another window, "
        "\\( is a bracket.",
    )
    shuffle_caption: bool = Field(
        default=False, description="Shuffle the comma-separated parts of a caption at every step."
    )


class Tokens(Group):
    """The concept's new token."""

    train_token: bool = Field(
        default=True, description="Train the token's embedding; if false, it stays that of the class word."
    )
    num_vectors: int = Field(default=1, ge=1, le=16, description="Number of embedding vectors of the new token.")
    layerwise_token: bool = Field(
        default=False,
        description="Train separate embedding vectors of the token for each block with cross-attention, as P+ and "
        "ED-LoRA (Gu et al., 2023) do.",
    )
    freeze_token_after: int | None = Field(
        default=None, ge=1, description="Freeze the token's embedding after this number of steps."
    )


class Validation(Group):
    """Validation images, early stopping, snapshots and the best result."""

    validation_steps: int | None = Field(
        default=None,
        ge=1,
        description="Generate and score validation images every this many steps, and at the end; off if unset.",
    )
    validation_prompt: str = Field(
        default="a photo of {}",
        description="Prompt of the validation images; {} stands for the token. The previews at the end have other "
        "prompts.",
    )
    num_validation_images: int = Field(default=4, ge=1, le=64, description="Number of validation images.")
    early_stopping_patience: int | None = Field(
        default=None, ge=1, description="Stop after this many validations in a row without a better image alignment."
    )
    save_every_n_steps: int | None = Field(
        default=None,
        ge=1,
        description="Keep the concept as it is every this many steps, with validation images and their score: a "
        "prompt takes such a snapshot as <rex@80>; off if unset.",
    )
    num_validation_pictures: int = Field(
        default=0,
        ge=0,
        le=50,
        description="The last pictures of the concept, so many, are not trained on: the loss on them is measured with "
        "the validation images. It increases when a training goes on too long.",
    )
    keep_best: bool = Field(
        default=False, description="Keep the parameters of the best image alignment instead of the last."
    )


class AdapterOptions(Group):
    """The adapter, its size, and the layers that it adapts."""

    adapter: str = Field(default="spectral_additive", description="The adapter; studio adapters lists them.")
    rank: int | None = Field(
        default=None,
        ge=1,
        description="The adapter's rank (PEFT: r, kohya: network_dim); the adapter's default if unset.",
    )
    max_parameters: int | None = Field(
        default=None, ge=1, description="Instead of a rank: the maximum number of the adapter's trained parameters."
    )
    options: dict[str, Any] = Field(default={}, description="The adapter's own options, by name.")
    target_modules: tuple[Places, ...] | None = Field(
        default=None,
        min_length=1,
        description="Groups of layers to adapt, not module names as in PEFT. In UNet and text encoder: attention "
        "(q, k, v, out), attention_kv, feed_forward, feed_forward_out (its last layer). In the UNet: "
        "cross_attention_kv; up_convolution (up blocks with cross-attention), inner_convolution (all blocks), "
        "convolution (also conv_in and conv_out). In the text encoder: text_attention. If unset, the base's default: "
        "attention, for toybox also up_convolution.",
    )
