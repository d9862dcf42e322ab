"""The two ways in which the composition study paints: from a merged model, and from one that serves its concepts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from PIL import Image

from studio.composition.serving import Request, Serving
from studio.diffusion import Base, paint, paint_prompts
from studio.paint_settings import PaintSettings
from studio.regions import Region


class Painter(Protocol):
    """Paints with the concepts that are in a base."""

    def alone(self, name: str, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """One picture for each prompt, which names this concept alone."""
        ...

    def together(
        self, prompt: str, seeds: Sequence[int], regions: Mapping[str, Region], size: tuple[int, int]
    ) -> list[Image.Image]:
        """One picture a seed, of this width and height, of a prompt that names all, each concept in its region."""
        ...

    def unnamed(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """One picture for each prompt, which names no concept."""
        ...


@dataclass(frozen=True)
class Merged:
    """Paints from a base into which the concepts are merged."""

    base: Base
    settings: PaintSettings

    def alone(self, name: str, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """The merged model does not ask which concept is meant."""
        return paint_prompts(self.base, prompts, seeds, self.settings)

    def together(
        self, prompt: str, seeds: Sequence[int], regions: Mapping[str, Region], size: tuple[int, int]
    ) -> list[Image.Image]:
        """Cross-attention reads by region; the weights are the same everywhere."""
        return paint(self.base, prompt, seeds, replace(self.settings, size=size), [*regions.values()])

    def unnamed(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """With the merged weights."""
        return paint_prompts(self.base, prompts, seeds, self.settings)


@dataclass(frozen=True)
class Unmerged:
    """Paints with each concept's own products, of those concepts alone that a request names."""

    serving: Serving
    settings: PaintSettings

    def alone(self, name: str, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """With this concept's products alone."""
        return self._paint([Request(p, seed, {name: 1.0}) for p, seed in zip(prompts, seeds, strict=True)])

    def together(
        self, prompt: str, seeds: Sequence[int], regions: Mapping[str, Region], size: tuple[int, int]
    ) -> list[Image.Image]:
        """Each concept's products act inside its region and on its prompt."""
        requests = [Request(prompt, seed, dict.fromkeys(regions, 1.0), regions) for seed in seeds]
        return self.serving.paint(requests, replace(self.settings, size=size))

    def unnamed(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """With no products at all."""
        return self._paint([Request(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)])

    def _paint(self, requests: Sequence[Request]) -> list[Image.Image]:
        return self.serving.paint(requests, self.settings)
