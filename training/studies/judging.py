"""How a study judges pictures: whose they are, and how near to the concept and to the words."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from concepts.samples import SAMPLES
from studio.identity import Recognition
from studio.scoring import Scorer
from training.studies.painters import Painter
from training.task import token_of
from training.toybox.lookalikes import sample_pictures, sample_recognition

ALONE = ("a photo of {}", "a photo of {} on the beach", "a photo of {} in the snow", "a photo of {} on a wooden table")
"""The prompts that show one concept."""


@dataclass(frozen=True)
class Portrait:
    """Pictures of one concept: their identity accuracy, and their mean image and text alignment."""

    pictures: list[Image.Image]
    identity: float
    image: float
    text: float


class Judge:
    """Knows all twelve sample concepts by their pictures."""

    def __init__(self, scorer: Scorer):
        self.scorer = scorer
        self._known: dict[str, Recognition] = {}

    @cached_property
    def references(self) -> dict[str, list[Image.Image]]:
        """The pictures of the sample concepts."""
        return {name: sample_pictures(name) for name in SAMPLES}

    def judged(self, name: str, pictures: Sequence[Image.Image]) -> tuple[float, float]:
        """The share of the pictures that show the concept, and their mean cosine with its own pictures."""
        if name not in self._known:
            self._known[name] = sample_recognition(self.scorer, name)
        identity = self._known[name].share(self.scorer.look_at(pictures))
        return identity, self.scorer.image_alignment(pictures, self.references[name]).mean().item()

    def portrait(self, painter: Painter, name: str, pictures: int, seed: int, subject: str | None = None) -> Portrait:
        """Paints the concept, or another `subject` in its place, `pictures` times by each of ALONE.

        Text alignment is with the class word in place of the concept.
        """
        templates = [template for template in ALONE for _ in range(pictures)]
        seeds = range(1000 * seed, 1000 * seed + len(templates))
        painted = painter.alone(name, _filled(templates, subject or token_of(name)), seeds)
        identity, image = self.judged(name, painted)
        words = self.scorer.embed_texts(_filled(templates, f"a {SAMPLES[name].class_word}"))
        text = (self.scorer.embed_pictures(painted) * words).sum(1).mean().item()
        return Portrait(painted, identity, image, text)


def _filled(templates: Sequence[str], subject: str) -> list[str]:
    return [template.format(subject) for template in templates]
