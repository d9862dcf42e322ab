"""Individuals that the scorer never saw, with what sets its thresholds and what tests them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from studio.metrics.clip import Scorer
from studio.metrics.identity import NEGATIVES, IdentityDecisions, Recognition, Thresholds
from training.toybox.evaluation.individual_views import hard_negative, hard_negatives, individual_view
from training.toybox.scenes.backgrounds import Rng
from training.toybox.scenes.individuals.traits import Individual, sample_individual
from training.toybox.scenes.render import draw_scene

CALIBRATION_SEED, LAW_SEED = 31, 32
COUNT = 120
"""Individuals that thresholds are set on, and as many others that they are tested on."""
REFERENCES, OWN = 5, 2
"""Pictures of an individual that it is known by, and further ones that should count."""
OTHERS_PASS, INTACT_FAIL = 0.05, 0.02
"""The share of other individuals whose similarity passes, and of own pictures that do not count as intact."""
Pictures = list[Image.Image]


@dataclass(frozen=True)
class Trial:
    """Pictures of one individual, 128x128 RGB.

    `negatives` are REFERENCES pictures of each of its hard negatives; `swapped` are the `own` pictures with the
    individual's colours exchanged or replaced.
    """

    references: Pictures
    own: Pictures
    negatives: list[Pictures]
    swapped: Pictures


def trials(count: int = COUNT, seed: int = LAW_SEED) -> list[Trial]:
    """Random individuals' pictures, the same for the same numbers."""
    rng = np.random.default_rng(seed)
    return [_trial(sample_individual(rng), rng) for _ in range(count)]


def _trial(individual: Individual, rng: Rng) -> Trial:
    scenes = [individual_view(individual, rng) for _ in range(OWN)]
    swapped = []
    for scene, change in zip(scenes, ("exchanged", "palette"), strict=True):
        first, *others = scene.items
        recoloured = replace(first, subject=hard_negative(individual, change, rng))
        swapped.append(draw_scene(replace(scene, items=(recoloured, *others))))
    return Trial(
        individual_views(individual, REFERENCES, rng),
        [draw_scene(scene) for scene in scenes],
        [individual_views(other, REFERENCES, rng) for other in hard_negatives(individual, rng)],
        swapped,
    )


def individual_views(individual: Individual, count: int, rng: Rng) -> Pictures:
    """Random individual_views of the individual, 128x128 RGB."""
    return [draw_scene(individual_view(individual, rng)) for _ in range(count)]


def mosaic(picture: Image.Image, _rng: Rng) -> Image.Image:
    """The picture as 8x8 fields of one colour each."""
    return picture.resize((8, 8), Image.Resampling.BOX).resize(picture.size, Image.Resampling.NEAREST)


def blurred(picture: Image.Image, _rng: Rng) -> Image.Image:
    """Gaussian blur with a standard deviation of 12 pixels at 128."""
    return picture.filter(ImageFilter.GaussianBlur(12 * picture.width / 128))


def shuffled(picture: Image.Image, rng: Rng) -> Image.Image:
    """The picture cut into 4x4 tiles, in a random order."""
    side = picture.width // 4
    corners = [(x * side, y * side) for y in range(4) for x in range(4)]
    result = picture.copy()
    for corner, other in zip(corners, rng.permutation(16).tolist(), strict=True):
        x, y = corners[other]
        result.paste(picture.crop((x, y, x + side, y + side)), corner)
    return result


CORRUPTIONS: dict[str, Callable[[Image.Image, Rng], Image.Image]] = {
    "mosaic": mosaic,
    "blurred": blurred,
    "shuffled": shuffled,
}
"""What must not count as a picture of the individual; the scorer is never trained with any of these."""


def calibrated(scorer: Scorer, drawn: Sequence[Trial]) -> Thresholds:
    """The thresholds at which OTHERS_PASS of other individuals, half of them hard negatives, and all but INTACT_FAIL
    of an individual's own pictures pass.
    """
    others, intact = [], []
    strangers = [scorer.extract_features(trial.own) for trial in drawn]
    for index, trial in enumerate(drawn):
        mean = scorer.extract_features(trial.references).vectors.mean(0)
        mean = mean / mean.norm()
        hard = scorer.extract_features([pictures[0] for pictures in trial.negatives])
        random = [strangers[(index + step) % len(drawn)].vectors[:1] for step in range(1, 1 + len(trial.negatives))]
        others += [*(hard.vectors @ mean).tolist(), *(float(vector @ mean) for vector in random)]
        intact += strangers[index].intact.tolist()
    return Thresholds(float(np.quantile(others, 1 - OTHERS_PASS)), float(np.quantile(intact, INTACT_FAIL)))


@dataclass(frozen=True)
class Tested:
    """What a law was tested on, and the decisions on all of its pictures."""

    law: str
    decisions: list[IdentityDecisions]

    @property
    def counts(self) -> tuple[int, int]:
        """How many pictures counted as the individual's, of how many."""
        counted = [bool(value) for decisions in self.decisions for value in decisions.counted]
        return sum(counted), len(counted)


def recognitions(scorer: Scorer, drawn: Sequence[Trial]) -> list[Recognition]:
    """Knows each trial's individual among its hard negatives and the individuals of the trials that follow."""
    own = [scorer.extract_features(trial.references) for trial in drawn]
    found = []
    for index, trial in enumerate(drawn):
        hard = [scorer.extract_features(pictures) for pictures in trial.negatives]
        more = [own[(index + step) % len(drawn)] for step in range(1, 1 + NEGATIVES - len(hard))]
        found.append(Recognition(scorer.identifier, own[index], [*hard, *more]))
    return found


def law_verdicts(scorer: Scorer, drawn: Sequence[Trial], seed: int = LAW_SEED) -> list[Tested]:
    """The decisions on own pictures, on corrupted ones, on swapped palettes and on hard negatives."""
    rng, known = np.random.default_rng(seed), recognitions(scorer, drawn)
    groups: dict[str, list[Pictures]] = {"own": [trial.own for trial in drawn]}
    for name, corrupt in CORRUPTIONS.items():
        groups[name] = [[corrupt(picture, rng) for picture in trial.own] for trial in drawn]
    groups["swapped palette"] = [trial.swapped for trial in drawn]
    groups["hard negatives"] = [[pictures[1] for pictures in trial.negatives] for trial in drawn]
    return [
        Tested(law, [one.judged(scorer.extract_features(pictures)) for one, pictures in zip(known, group, strict=True)])
        for law, group in groups.items()
    ]
