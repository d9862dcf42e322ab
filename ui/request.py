"""What is to be painted, as plain data: controls are made from it, and every picture keeps it as text."""

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from studio.errors import StudioError
from studio.paint_settings import MOST_GUIDANCE, SEEDS, PaintSettings, check_seeds

Box = tuple[float, float, float, float]
"""Top, left, bottom, right; shares of the picture's sides, or pixels if one is more than 1."""


class PaintRequest(BaseModel):
    """A prompt with all that decides its pictures, except the base and what the concepts were trained to be."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: str = Field(description="What to paint; a concept is written <NAME>.")
    concepts: tuple[str, ...] = Field(default=(), description="Concepts to load that the prompt does not name.")
    method: str | None = Field(
        default=None, description="How several concepts are put together; what suits their adapters if unset."
    )
    strengths: dict[str, float] = Field(default={}, description="How strongly each concept acts; 1 is as trained.")
    average: bool = Field(default=False, description="Divide all strengths by the number of concepts.")
    seed: int = Field(
        default=0, ge=0, le=SEEDS.stop - 1, description="The first picture's; the next has the next number."
    )
    number: int = Field(default=4, ge=1, description="How many pictures.")
    steps: int = Field(default=20, ge=1, le=1000, description="Denoising steps: more are slower and finer.")
    guidance: float = Field(
        default=4.0, ge=0, le=MOST_GUIDANCE, description="How strictly the prompt is followed: toybox 4, others 7."
    )
    negative_prompt: str = Field(default="", description="What the picture should not show.")
    size: tuple[int, int] | None = Field(
        default=None, description="Width and height in pixels; what the base was trained on if unset."
    )
    regions: dict[str, Box] = Field(default={}, description="The box in which each concept is painted.")

    @model_validator(mode="after")
    def _has_seeds(self) -> Self:
        check_seeds([self.seeds[-1]])
        return self

    @property
    def settings(self) -> PaintSettings:
        """The settings of the sampler."""
        return PaintSettings(
            steps=self.steps, guidance=self.guidance, negative_prompt=self.negative_prompt, size=self.size
        )

    @property
    def seeds(self) -> range:
        """One seed for each picture."""
        return range(self.seed, self.seed + self.number)

    def text(self, seed: int) -> dict[str, str]:
        """What the picture of this seed keeps; `request_from_text` reads it."""
        values = self.model_copy(update={"seed": seed, "number": 1}).model_dump(mode="json")
        return {key: _as_text(value) for key, value in values.items() if value is not None}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def request_from_text(text: Mapping[str, Any]) -> PaintRequest:
    """The request that a picture keeps. Raises StudioError for a picture that was not painted here."""
    try:
        own = {key: value for key, value in text.items() if key in PaintRequest.model_fields}
        words = ("prompt", "negative_prompt", "method")
        return PaintRequest(**{key: value if key in words else json.loads(value) for key, value in own.items()})
    except (ValidationError, ValueError, TypeError) as error:
        raise StudioError("Choose a picture that was painted here: this one keeps no settings.") from error
