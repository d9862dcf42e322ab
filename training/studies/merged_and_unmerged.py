"""The composition study's two ways to generate: with merged concepts, and with unmerged ones (serving)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from studio.models.base_model import Base, generate, generate_images
from studio.models.regions.region import Region
from studio.models.sampling_settings import SamplingSettings
from studio.serving.serving import Request, Serving


class ImageGenerator(Protocol):
    """Generates with the concepts of a base."""

    def alone(self, name: str, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """One picture for each prompt, which names only this concept."""
        ...

    def together(
        self, prompt: str, seeds: Sequence[int], regions: Mapping[str, Region], size: tuple[int, int]
    ) -> list[Image.Image]:
        """One picture per seed, of this width and height, of a prompt that names all, each concept in its region."""
        ...

    def unnamed(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """One picture for each prompt, which names no concept."""
        ...


@dataclass(frozen=True)
class Merged:
    """Generates from a base into which the concepts are merged."""

    base: Base
    settings: SamplingSettings

    def alone(self, name: str, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """With the merged weights, whatever the concept."""
        return generate_images(self.base, prompts, seeds, self.settings)

    def together(
        self, prompt: str, seeds: Sequence[int], regions: Mapping[str, Region], size: tuple[int, int]
    ) -> list[Image.Image]:
        """Cross-attention is masked by region; the weights are the same everywhere."""
        return generate(self.base, prompt, seeds, self.settings.model_copy(update={"size": size}), [*regions.values()])

    def unnamed(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """With the merged weights."""
        return generate_images(self.base, prompts, seeds, self.settings)


@dataclass(frozen=True)
class Unmerged:
    """Generates with the adapters of only those concepts that a request names, applied separately."""

    serving: Serving
    settings: SamplingSettings

    def alone(self, name: str, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """With only this concept's adapters."""
        return self._generate([Request(p, seed, {name: 1.0}) for p, seed in zip(prompts, seeds, strict=True)])

    def together(
        self, prompt: str, seeds: Sequence[int], regions: Mapping[str, Region], size: tuple[int, int]
    ) -> list[Image.Image]:
        """Each concept's adapters apply inside its region and on its prompt."""
        requests = [Request(prompt, seed, dict.fromkeys(regions, 1.0), regions) for seed in seeds]
        return self.serving.generate(requests, self.settings.model_copy(update={"size": size}))

    def unnamed(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """Without adapters."""
        return self._generate([Request(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)])

    def _generate(self, requests: Sequence[Request]) -> list[Image.Image]:
        return self.serving.generate(requests, self.settings)
