"""Scores a study's pictures: identity accuracy, and image and text alignment."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from concepts.samples import SAMPLES
from studio.metrics.clip import Scorer
from studio.models.token_embeddings import token_of
from training.studies.merged_and_unmerged import ImageGenerator
from training.toybox.evaluation.sample_identity import PROMPTS, SampleJudge


@dataclass(frozen=True)
class ConceptScores:
    """Pictures of one concept: their identity accuracy, and their mean image and text alignment."""

    pictures: list[Image.Image]
    identity: float
    image: float
    text: float


class ConceptScorer:
    """Scores pictures of the sample concepts."""

    def __init__(self, scorer: Scorer):
        self.scorer, self.judge = scorer, SampleJudge(scorer)

    def scores_of(self, name: str, pictures: Sequence[Image.Image]) -> tuple[float, float]:
        """The pictures' identity accuracy, and their mean image alignment with the concept's own."""
        image = self.scorer.image_alignment(pictures, self.judge.references[name]).mean().item()
        return self.judge.identity_accuracy(name, pictures), image

    def generate_and_score(
        self, image_generator: ImageGenerator, name: str, pictures: int, seed: int, subject: str | None = None
    ) -> ConceptScores:
        """Generates the concept, or another `subject` instead, `pictures` times with each of PROMPTS, and scores it.

        Text alignment is with the class word instead of the concept.
        """
        templates = [template for template in PROMPTS for _ in range(pictures)]
        seeds = range(1000 * seed, 1000 * seed + len(templates))
        generated = image_generator.alone(name, _filled(templates, subject or token_of(name)), seeds)
        identity, image = self.scores_of(name, generated)
        words = self.scorer.embed_texts(_filled(templates, f"a {SAMPLES[name].class_word}"))
        text = (self.scorer.embed_pictures(generated) * words).sum(1).mean().item()
        return ConceptScores(generated, identity, image, text)


def _filled(templates: Sequence[str], subject: str) -> list[str]:
    return [template.format(subject) for template in templates]
