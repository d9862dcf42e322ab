"""How pictures are generated: steps, guidance, size and seeds, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from concepts.errors import StudioError

MOST_GUIDANCE = 100
MOST_SIDE = 4096
SEEDS = range(2**64)
"""The seeds that torch takes."""


class Sized(Protocol):
    """What a size is checked against: a base's own side in pixels, and what sides must be multiples of."""

    @property
    def side(self) -> int:
        """The side of the square pictures that the base was trained on."""
        ...

    @property
    def size_step(self) -> int:
        """Sides must be multiples of it."""
        ...


@dataclass(frozen=True)
class SamplingSettings:
    """How a picture is generated."""

    num_inference_steps: int = 20
    """Denoising steps; 1 to 1000."""
    guidance_scale: float = 4.0
    """Classifier-free guidance (Ho and Salimans, 2022): 1 follows the prompt loosely, 10 slavishly; 0 to 100."""
    guidance_rescale: float = 0.5
    """Holds back the contrast that guidance adds (Lin et al., 2023, section 3.4); 0 to 1."""
    negative_prompt: str = ""
    """What the picture should not show."""
    batch_size: int = 4
    """Pictures generated at once."""
    size: tuple[int, int] | None = None
    """Width and height in pixels; what the base was trained on if unset."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_inference_steps <= 1000:
            raise StudioError(f"Choose 1 to 1000 steps: {self.num_inference_steps} is outside that range.")
        if not 0 <= self.guidance_scale <= MOST_GUIDANCE:
            raise StudioError(
                f"Choose a guidance from 0 to {MOST_GUIDANCE}: {self.guidance_scale} is outside that range."
            )
        if not 0 <= self.guidance_rescale <= 1:
            raise StudioError(f"Choose a guidance rescale from 0 to 1: {self.guidance_rescale} is outside that range.")
        if self.batch_size < 1:
            raise StudioError(f"Choose a batch of at least 1: {self.batch_size} is too small.")

    def pixels(self, base: Sized) -> tuple[int, int]:
        """Width and height of the pictures. Raises StudioError for a size that the base cannot halve as it must."""
        size, step = self.size or (base.side, base.side), base.size_step
        if any(side < step or side % step or side > MOST_SIDE for side in size):
            raise StudioError(
                f"Choose width and height as multiples of {step} up to {MOST_SIDE}: {size[0]}x{size[1]} is not."
            )
        return size

    def aspect(self, base: Sized) -> float:
        """Width by height."""
        width, height = self.pixels(base)
        return width / height


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise StudioError unless every seed is one."""
    if wrong := next((seed for seed in seeds if seed not in SEEDS), None):
        raise StudioError(f"Choose seeds from 0 to 2^64 - 1: {wrong} is outside that range.")
