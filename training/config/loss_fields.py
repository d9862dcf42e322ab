"""The options of a recipe's losses."""

from typing import Literal

from pydantic import Field

from training.config.option_group import Group


class Loss(Group):
    """The losses and their weights."""

    snr_gamma: float | None = Field(
        title="SNR gamma",
        default=None,
        gt=0,
        description="Min-SNR weighting (Hang et al., 2023) with this gamma, usually 5; off if unset.",
    )
    noise_offset: float = Field(
        default=0.0, ge=0, le=1, description="Noise offset per channel, for very dark or bright images."
    )
    multires_noise_iterations: int | None = Field(
        title="Multires noise iterations",
        default=None,
        ge=1,
        le=10,
        description="Multi-resolution noise: how many coarser resolutions are added, usually 6 to 10; off if unset. "
        "Instead of noise_offset.",
    )
    multires_noise_discount: float = Field(
        title="Multires noise discount",
        default=0.3,
        gt=0,
        le=1,
        description="Factor of each coarser resolution of multi-resolution noise; 0.8 is common for 6 to 10 of them.",
    )
    loss_type: Literal["l2", "huber", "smooth_l1"] = Field(
        default="l2",
        description="The denoising loss: l2 (squared error), or kohya's pseudo-Huber losses, which give outliers less "
        "weight.",
    )
    huber_c: float = Field(default=0.1, gt=0, le=1, description="The threshold of huber and smooth_l1.")
    huber_schedule: Literal["snr", "exponential", "constant"] = Field(
        default="snr", description="How the threshold of huber and smooth_l1 falls with the timestep."
    )
    prior_ratio: float = Field(
        default=0.375,
        ge=0,
        lt=1,
        description="Fraction of the batch whose prompts do not name the concept, rounded to whole samples.",
    )
    output_preservation_weight: float = Field(
        default=20.0,
        ge=0,
        description="Weight of the output preservation loss, which keeps layer outputs on prompts without the concept. "
        "It replaces DreamBooth's prior preservation loss; 0 uses the latter.",
    )
    preservation_interval: int = Field(
        default=1,
        ge=1,
        description="The output preservation loss is computed in every n-th batch, with n times the weight. The other "
        "batches have only the samples that name the concept, so that a step takes less time on average.",
    )
    random_token_ratio: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Probability that a prompt of the output preservation loss names a random token instead of a "
        "thing.",
    )
    class_data_dir: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of your own images of the class (kohya: reg_data_dir), used instead of generated ones; a "
        "caption is in a text file beside an image.",
    )
    num_class_images: int = Field(
        default=48,
        ge=2,
        description="Number of class images (kohya: regularization images), which the base generates: half of the "
        "class word, half of other things.",
    )
    prior_seed: int = Field(
        default=0, ge=0, lt=2**32, description="Seed of the class images; trainings with the same seed share them."
    )
    masked_loss: bool = Field(
        default=True,
        description="Weight the loss by a picture's mask where it has one: a mask file, or its transparency.",
    )
    unmasked_weight: float = Field(default=0.05, ge=0, le=1, description="Weight of the loss outside the mask.")
