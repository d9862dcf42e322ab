"""Identity accuracy of generated pictures of the sample concepts."""

from collections.abc import Sequence
from functools import cached_property

from PIL import Image

from concepts.samples import SAMPLES
from studio.metrics.clip import Scorer
from studio.metrics.identity import Recognition
from training.toybox.evaluation.hard_negatives import sample_pictures, sample_recognition

PROMPTS = (
    "a photo of {}",
    "a photo of {} on the beach",
    "a photo of {} in the snow",
    "a photo of {} on a wooden table",
)
"""The prompts that show one concept."""
VERIFIED = (
    "the share of pictures that are nearer to the concept's own pictures than to those of eleven others, four of them "
    "hard negatives, near enough to them, and intact"
)
NEAREST = "the share of pictures whose nearest reference set, among all twelve sample concepts, is the concept's own"


class SampleJudge:
    """Measures the identity accuracy of pictures of the sample concepts.

    With toybox-clip by its identity network (`hard_negatives.sample_recognition`); with another scorer, which has
    none, by the nearest of the twelve samples. `meaning` says which, for a sentence in a report.
    """

    def __init__(self, scorer: Scorer):
        self.scorer = scorer
        self._recognitions: dict[str, Recognition] = {}

    @property
    def verifies(self) -> bool:
        """Whether the scorer has an identity network."""
        return self.scorer.identifier is not None and self.scorer.identifier.thresholds is not None

    @property
    def meaning(self) -> str:
        """What identity accuracy means here, without a full stop."""
        return VERIFIED if self.verifies else NEAREST

    @cached_property
    def references(self) -> dict[str, list[Image.Image]]:
        """The pictures of the sample concepts."""
        return {name: sample_pictures(name) for name in SAMPLES}

    def counted(self, name: str, pictures: Sequence[Image.Image]) -> list[bool]:
        """For each RGB picture whether it shows the sample concept."""
        if not self.verifies:
            return [nearest == name for nearest in self.scorer.nearest(pictures, self.references)]
        if name not in self._recognitions:
            self._recognitions[name] = sample_recognition(self.scorer, name)
        return self._recognitions[name].decisions(self.scorer.extract_features(pictures)).counted.tolist()

    def identity_accuracy(self, name: str, pictures: Sequence[Image.Image]) -> float:
        """The share of the RGB pictures that show the sample concept."""
        return sum(self.counted(name, pictures)) / len(pictures)
