"""What is to be generated, as plain data: controls are made from it, and every picture keeps it as text."""

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from concepts.errors import StudioError
from studio.models.sampling_settings import MOST_GUIDANCE, SEEDS, SamplingSettings, check_seeds

RENAMED = {"number": "num_images", "steps": "num_inference_steps", "guidance": "guidance_scale"}
"""The settings that pictures of before 0.1.0 keep under other names, by those names."""
RENAMED_METHODS = {"gradient": "gradient_fusion"}
Box = tuple[float, float, float, float]
"""Top, left, bottom, right; shares of the picture's sides, or pixels if one is more than 1."""


class GenerationRequest(BaseModel):
    """A prompt with all that decides its pictures, except the base and what the concepts were trained to be."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: str = Field(description="What to generate; a concept is written <NAME>.")
    concepts: tuple[str, ...] = Field(default=(), description="Concepts to load that the prompt does not name.")
    method: str | None = Field(
        default=None, description="How several concepts are put together; what suits their adapters if unset."
    )
    strengths: dict[str, float] = Field(default={}, description="How strongly each concept acts; 1 is as trained.")
    average: bool = Field(default=False, description="Divide all strengths by the number of concepts.")
    seed: int = Field(
        default=0, ge=0, le=SEEDS.stop - 1, description="The first picture's; the next has the next number."
    )
    num_images: int = Field(title="Images", default=4, ge=1, description="How many pictures.")
    num_inference_steps: int = Field(
        title="Steps", default=20, ge=1, le=1000, description="Denoising steps: more are slower and finer."
    )
    guidance_scale: float = Field(
        default=4.0, ge=0, le=MOST_GUIDANCE, description="How strictly the prompt is followed: toybox 4, others 7."
    )
    negative_prompt: str = Field(default="", description="What the picture should not show.")
    size: tuple[int, int] | None = Field(
        default=None, description="Width and height in pixels; what the base was trained on if unset."
    )
    regions: dict[str, Box] = Field(default={}, description="The box in which each concept is generated.")

    @model_validator(mode="after")
    def _has_seeds(self) -> Self:
        check_seeds([self.seeds[-1]])
        return self

    @property
    def settings(self) -> SamplingSettings:
        """The settings of the sampler."""
        return SamplingSettings(
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            negative_prompt=self.negative_prompt,
            size=self.size,
        )

    @property
    def seeds(self) -> range:
        """One seed for each picture."""
        return range(self.seed, self.seed + self.num_images)

    def text(self, seed: int) -> dict[str, str]:
        """What the picture of this seed keeps; `request_from_text` reads it."""
        values = self.model_copy(update={"seed": seed, "num_images": 1}).model_dump(mode="json")
        return {key: _as_text(value) for key, value in values.items() if value is not None}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def request_from_text(text: Mapping[str, Any]) -> GenerationRequest:
    """The request that a picture keeps. Raises StudioError for a picture that was not generated here."""
    try:
        current = {RENAMED.get(key, key): value for key, value in text.items()}
        current["method"] = RENAMED_METHODS.get(current.get("method", ""), current.get("method"))
        own = {key: value for key, value in current.items() if key in GenerationRequest.model_fields}
        words = ("prompt", "negative_prompt", "method")
        return GenerationRequest(**{key: value if key in words else json.loads(value) for key, value in own.items()})
    except (ValidationError, ValueError, TypeError) as error:
        raise StudioError("Choose a picture that was generated here: this one keeps no settings.") from error
