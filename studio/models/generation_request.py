"""What is to be generated, as plain data: made once, and passed as it is to the sampler."""

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from concepts.errors import StudioError
from studio.models.img2img.denoising_strength import (
    DENOISING_STRENGTH,
    INPAINTING_STRENGTH,
    MASK_BLUR,
    denoising_steps,
    strength_or_default,
)
from studio.models.prompt_names import read_names, read_negative_names
from studio.models.sampling_settings import SEEDS, SamplingSettings, check_seeds

RENAMED = {"number": "num_images", "steps": "num_inference_steps", "guidance": "guidance_scale"}
"""The settings that images of before 0.1.0 keep under other names, by those names."""
RENAMED_METHODS = {"gradient": "gradient_fusion_preserving"}
Box = tuple[float, float, float, float]
"""Top, left, bottom, right; fractions of the image's sides, or pixels if one is more than 1."""
AUTO = "auto"
"""In place of a box: the region is found while the image is sampled."""
_WORDS = ("prompt", "negative_prompt", "prompt_syntax", "method", "scheduler", "image", "mask")
"""Settings that an image keeps as they are; the others are kept as JSON."""


class ControlInput(BaseModel):
    """An image that the generated ones follow, and the T2IAdapter or ControlNet that reads it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(min_length=1, description="What the image shows: sketch, pose, depth or a word of your own.")
    image: str = Field(min_length=1, description="The image's file.")
    model: str | None = Field(
        default=None,
        description="A folder or a Hugging Face Hub model ID; the default one of the kind and base if unset.",
    )
    conditioning_scale: float = Field(
        default=1.0, description="How closely the image is followed; 1 is the trained strength."
    )


class GenerationRequest(SamplingSettings):
    """A prompt with all that decides its images, except the base and what the concepts were trained to be."""

    prompt: str = Field(description="What to generate; a concept is written <NAME>, or <NAME:0.8> with a strength.")
    concepts: tuple[str, ...] = Field(default=(), description="Concepts to use although the prompt does not name them.")
    strengths: dict[str, float | dict[str, float]] = Field(
        default={},
        description="How strongly each concept acts; 1 is the trained strength. A number, or one for each component "
        "or block.",
    )
    average: bool = Field(default=False, description="Divide all strengths by the number of concepts.")
    method: str | None = Field(
        default=None,
        description="The merge method; if unset, spectral if all adapters are spectral_additive, else fedavg.",
    )
    density: float | None = Field(
        default=None, gt=0, le=1, description="For ties and dare: the fraction of entries to keep; 0.5 if unset."
    )
    ridge: float | None = Field(
        default=None, gt=0, description="For gradient fusion: the weight of the ridge penalty; 0.0001 if unset."
    )
    rank: int | None = Field(
        default=None, ge=1, description="For svd: the rank of the merged change; the concepts' highest rank if unset."
    )
    contrast: float | None = Field(
        default=None, ge=0, description="For contrast: how far outputs are pushed from other concepts'; 0.25 if unset."
    )
    regions: Mapping[str, Box | str] = Field(
        default={},
        description="Where each concept is generated: a box, auto to find it, or a mask's file, white where it is.",
    )
    auto_regions: bool = Field(
        default=False, description="Find a region for each concept of the prompt that is not given one."
    )
    control: tuple[ControlInput, ...] = Field(default=(), description="Images that the generated ones follow.")
    image: str | None = Field(
        default=None, min_length=1, description="The file of the start image, from which the images are generated."
    )
    mask: str | None = Field(
        default=None,
        min_length=1,
        description="The file of the start image's inpainting mask: white is repainted, black is kept.",
    )
    denoising_strength: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="How much of the start image changes, up to 1, which begins from noise alone; "
        f"{DENOISING_STRENGTH:g} if unset, {INPAINTING_STRENGTH:g} with a mask.",
    )
    mask_blur: float | None = Field(
        default=None,
        ge=0,
        le=64,
        description=f"How far the edge of the mask is blurred, in pixels of the image; {MASK_BLUR:g} if unset.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=SEEDS.stop - 1,
        description="The seed of the first image; each further image has the next seed.",
    )
    num_images: int = Field(title="Images", default=4, ge=1, description="Number of images.")

    @model_validator(mode="before")
    @classmethod
    def _names_are_read(cls, values: Any) -> Any:
        """Both prompts with names as <NAME>, and the strengths that the prompt gives; StudioError for two of one
        concept.
        """
        if not isinstance(values, Mapping) or not isinstance(values.get("prompt"), str):
            return values
        if isinstance(negative := values.get("negative_prompt"), str):
            values = {**values, "negative_prompt": read_negative_names(negative)}
        prompt, found = read_names(values["prompt"])
        given = {name.lower(): strength for name, strength in (values.get("strengths") or {}).items()}
        if twice := next((name for name, s in found.items() if given.get(name.lower(), s) != s), None):
            raise StudioError(f"{twice} has one strength in the prompt and another as an option. Give one of them.")
        return {**values, "prompt": prompt, "strengths": {**(values.get("strengths") or {}), **found}}

    @model_validator(mode="after")
    def _has_seeds(self) -> Self:
        check_seeds([self.seeds[-1]])
        return self

    @model_validator(mode="after")
    def _has_an_image_for_its_mask(self) -> Self:
        if self.mask is not None and self.image is None:
            raise StudioError("A mask needs the start image that it belongs to. Give that as well.")
        return self

    @property
    def seeds(self) -> range:
        """One seed for each image."""
        return range(self.seed, self.seed + self.num_images)

    @property
    def total_steps(self) -> int:
        """The denoising steps of all batches; with a start image those that its strength leaves."""
        steps = self.num_inference_steps
        if self.image is not None:
            steps = denoising_steps(steps, strength_or_default(self.denoising_strength, self.mask is not None))
        return steps * -(-self.num_images // self.batch_size)

    def text(self, seed: int) -> dict[str, str]:
        """What the image of this seed keeps; `request_from_text` reads it. Of files it keeps the names alone."""
        values = self.model_copy(update={"seed": seed, "num_images": 1}).model_dump(mode="json")
        values["control"] = [{**each, "image": PurePath(each["image"]).name} for each in values["control"]]
        values |= {key: PurePath(values[key]).name for key in ("image", "mask") if values[key] is not None}
        values["regions"] = {
            name: PurePath(place).name if isinstance(place, str) else place for name, place in values["regions"].items()
        }
        return {
            key: value if key in _WORDS else json.dumps(value) for key, value in values.items() if value is not None
        }


def request_from_text(text: Mapping[str, Any]) -> GenerationRequest:
    """The request that an image keeps. Raises StudioError for an image that was not generated here."""
    try:
        current = {RENAMED.get(key, key): value for key, value in text.items()}
        current["method"] = RENAMED_METHODS.get(current.get("method", ""), current.get("method"))
        own = {key: value for key, value in current.items() if key in GenerationRequest.model_fields}
        values = {key: value if key in _WORDS else json.loads(value) for key, value in own.items()}
        return GenerationRequest(**{"control": _former_control(text), **values})
    except (ValidationError, ValueError, TypeError) as error:
        raise StudioError(
            "The image has no generation settings in its metadata. Choose a PNG file that Concept Studio generated."
        ) from error


def _former_control(text: Mapping[str, Any]) -> list[dict[str, str]]:
    """The control inputs that images of before 0.1.0 keep, as KIND:FILE and KIND:MODEL separated by commas."""

    def by_kind(key: str) -> dict[str, str]:
        pairs = [part.partition(":") for part in str(text.get(key, "")).split(", ") if ":" in part]
        return {kind: value for kind, _, value in pairs}

    models = by_kind("condition_models")
    return [
        {"kind": kind, "image": image, **({"model": models[kind]} if kind in models else {})}
        for kind, image in by_kind("conditions").items()
    ]
