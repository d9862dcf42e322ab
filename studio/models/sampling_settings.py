"""How images are sampled: scheduler, steps, guidance, size and seeds, checked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from concepts.errors import StudioError
from studio.models.prompt_weights import PromptSyntax
from studio.models.scheduler_names import SCHEDULERS

if TYPE_CHECKING:
    from studio.models.families import Family

MAX_GUIDANCE_SCALE = 100
MAX_SIDE = 4096
SEEDS = range(2**64)
"""The seeds that torch takes."""


class Sized(Protocol):
    """What a size is checked against: a base's own side in pixels, and what sides must be multiples of."""

    @property
    def side(self) -> int:
        """The side of the square images that the base was trained on."""
        ...

    @property
    def size_step(self) -> int:
        """Sides must be multiples of it."""
        ...


class SamplingSettings(BaseModel):
    """How an image is sampled, whatever its prompt. Raises pydantic's ValidationError for values out of range.

    The defaults are those of toybox; a base of another family has its own (`with_defaults`).
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    scheduler: str | None = Field(
        default=None, description=f"The base's own if unset, or one of {', '.join(SCHEDULERS)}."
    )
    num_inference_steps: int = Field(
        title="Steps", default=20, ge=1, le=1000, description="Denoising steps: more are slower and finer."
    )
    guidance_scale: float = Field(
        default=4.0, ge=0, le=MAX_GUIDANCE_SCALE,
        description="Classifier-free guidance scale (Ho and Salimans, 2022).",
    )  # fmt: skip
    guidance_rescale: float = Field(
        default=0.5, ge=0, le=1,
        description="Guidance rescale (Lin et al., 2023, section 3.4), 0 to 1; 0 in diffusers.",
    )  # fmt: skip
    negative_prompt: str = Field(default="", description="What the image should not show.")
    prompt_syntax: PromptSyntax = Field(
        default="plain",
        description="plain, or a1111: (a cat:1.3) weighs words, BREAK begins another window, \\( writes a bracket.",
    )
    size: tuple[int, int] | None = Field(
        default=None, description="Width and height in pixels; the base's training size if unset."
    )
    batch_size: int = Field(default=4, ge=1, description="Images sampled at once; more need more memory.")

    @field_validator("scheduler")
    @classmethod
    def _known_scheduler(cls, name: str | None) -> str | None:
        if name is not None and name.lower() not in SCHEDULERS:
            raise ValueError(f"there is no scheduler {name!r}; choose from {', '.join(SCHEDULERS)}")
        return name and name.lower()

    def with_defaults(self, family: "Family") -> Self:
        """These settings, with the family's value of each that was not set."""
        unset = {name: value for name, value in family.sampling.items() if name not in self.model_fields_set}
        return self.model_copy(update=unset) if unset else self

    def pixels(self, base: Sized) -> tuple[int, int]:
        """Width and height of the images. Raises StudioError for a size that the base cannot halve as it must."""
        size, step = self.size or (base.side, base.side), base.size_step
        if any(side < step or side % step or side > MAX_SIDE for side in size):
            raise StudioError(
                f"Size {size[0]}x{size[1]} is impossible. Choose width and height as multiples of {step} up to "
                f"{MAX_SIDE}."
            )
        return size

    def aspect(self, base: Sized) -> float:
        """Width by height."""
        width, height = self.pixels(base)
        return width / height


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise StudioError unless every seed is one."""
    if wrong := next((seed for seed in seeds if seed not in SEEDS), None):
        raise StudioError(f"Seed {wrong} is outside the range. Choose one from 0 to 2^64 - 1.")
