"""Scores a study's pictures: identity accuracy, and image and text alignment."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image
from torch import Tensor

from concepts import read_picture
from concepts.samples import SAMPLES
from studio.metrics.clip import Scorer
from studio.models.token_embeddings import token_of
from training.studies.merged_and_unmerged import ImageGenerator

ALONE = ("a photo of {}", "a photo of {} on the beach", "a photo of {} in the snow", "a photo of {} on a wooden table")
"""The prompts that show one concept."""


@dataclass(frozen=True)
class ConceptScores:
    """Pictures of one concept: their identity accuracy, and their mean image and text alignment."""

    pictures: list[Image.Image]
    identity: float
    image: float
    text: float


class ConceptScorer:
    """Scores pictures against the pictures of all twelve sample concepts."""

    def __init__(self, scorer: Scorer):
        self.scorer = scorer

    @cached_property
    def references(self) -> dict[str, list[Image.Image]]:
        """The pictures of the sample concepts."""
        return {name: [read_picture(p, p.name) for p in sample.pictures] for name, sample in SAMPLES.items()}

    @cached_property
    def _means(self) -> Tensor:
        """The mean embedding of each sample concept's pictures, (12, d)."""
        return self.scorer.mean_embeddings(self.references)

    def scores_of(self, name: str, embedded: Tensor) -> tuple[float, float]:
        """For embedded pictures (n, d): the share whose nearest reference set is this concept's, and their mean cosine
        with it.
        """
        cosines, own = embedded @ self._means.T, list(self.references).index(name)
        return (cosines.argmax(1) == own).float().mean().item(), cosines[:, own].mean().item()

    def generate_and_score(
        self, image_generator: ImageGenerator, name: str, pictures: int, seed: int, subject: str | None = None
    ) -> ConceptScores:
        """Generates the concept, or another `subject` instead, `pictures` times with each of ALONE, and scores it.

        Text alignment is with the class word instead of the concept.
        """
        templates = [template for template in ALONE for _ in range(pictures)]
        seeds = range(1000 * seed, 1000 * seed + len(templates))
        generated = image_generator.alone(name, _filled(templates, subject or token_of(name)), seeds)
        embedded = self.scorer.embed_pictures(generated)
        identity, image = self.scores_of(name, embedded)
        words = self.scorer.embed_texts(_filled(templates, f"a {SAMPLES[name].class_word}"))
        return ConceptScores(generated, identity, image, (embedded * words).sum(1).mean().item())


def _filled(templates: Sequence[str], subject: str) -> list[str]:
    return [template.format(subject) for template in templates]
