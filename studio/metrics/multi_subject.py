"""Prompts with several concepts, after Concept101's compositions (Kumari et al., 2023, "Custom Diffusion") and the
scenes of Chen et al., 2026 (arXiv 2603.26078, section 3): neutral ones, and ones in which subjects hide one another or
act together.
"""

from collections.abc import Sequence
from typing import Literal

Scene = Literal["neutral", "occlusion", "interaction"]

NEUTRAL = (
    "a photo of {}", "a photo of {} on the beach", "a photo of {} in the snow", "a photo of {} on the grass",
    "a photo of {} in the forest",
)  # fmt: skip
OCCLUSION = ("a photo of {} close together, partly behind one another", "a photo of {} in a crowded shop window")
INTERACTION = ("a photo of {} playing together in a garden", "a photo of {} leaning against each other on a sofa")
PICTURES = 4
"""Images of each prompt."""


def templates(simple: bool = False) -> list[tuple[Scene, str]]:
    """The scenes with their prompts; only neutral ones for a base that knows few words."""
    scenes: dict[Scene, tuple[str, ...]] = {"neutral": NEUTRAL, "occlusion": OCCLUSION, "interaction": INTERACTION}
    return [(scene, text) for scene, texts in scenes.items() for text in texts if scene == "neutral" or not simple]


def listed(subjects: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(subjects[:-1]), subjects[-1]] if len(subjects) > 1 else subjects)
