"""Verification trials on unseen individuals, for calibrating the scorer's thresholds and for testing."""

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

CALIBRATION_SEED, BENCHMARK_SEED = 31, 32
COUNT = 120
"""The number of individuals for calibration, and for testing."""
REFERENCES, OWN = 5, 2
"""The number of reference pictures of an individual, and of further pictures of it."""
FALSE_ACCEPT_RATE, FALSE_REJECT_RATE = 0.05, 0.005
"""The rates, at the thresholds, of other individuals whose similarity passes, and of own pictures not intact."""
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


def trials(count: int = COUNT, seed: int = BENCHMARK_SEED) -> list[Trial]:
    """Trials of random individuals, deterministic by count and seed."""
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
    """Random pictures of the individual, 128x128 RGB."""
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
"""Corruptions after which a picture must not count; they are not used in the scorer's training."""


def calibrated_thresholds(scorer: Scorer, drawn: Sequence[Trial]) -> Thresholds:
    """The thresholds at which FALSE_ACCEPT_RATE of other individuals, half of them hard negatives, and all but
    FALSE_REJECT_RATE of an individual's own pictures pass.
    """
    others, intact = [], []
    features = [scorer.extract_features(trial.own) for trial in drawn]
    for index, trial in enumerate(drawn):
        mean = scorer.extract_features(trial.references).vectors.mean(0)
        mean = mean / mean.norm()
        hard = scorer.extract_features([pictures[0] for pictures in trial.negatives])
        random = [features[(index + step) % len(drawn)].vectors[:1] for step in range(1, 1 + len(trial.negatives))]
        others += [*(hard.vectors @ mean).tolist(), *(float(vector @ mean) for vector in random)]
        intact += features[index].intact.tolist()
    return Thresholds(float(np.quantile(others, 1 - FALSE_ACCEPT_RATE)), float(np.quantile(intact, FALSE_REJECT_RATE)))


@dataclass(frozen=True)
class CaseDecisions:
    """A test case's name, and the decisions on all of its pictures."""

    case: str
    decisions: list[IdentityDecisions]

    @property
    def counts(self) -> tuple[int, int]:
        """How many pictures counted as the individual's, of how many."""
        counted = [bool(value) for decisions in self.decisions for value in decisions.counted]
        return sum(counted), len(counted)


def recognitions(scorer: Scorer, drawn: Sequence[Trial]) -> list[Recognition]:
    """Verifiers of each trial's individual against its hard negatives and the individuals of later trials."""
    own = [scorer.extract_features(trial.references) for trial in drawn]
    found = []
    for index, trial in enumerate(drawn):
        hard = [scorer.extract_features(pictures) for pictures in trial.negatives]
        more = [own[(index + step) % len(drawn)] for step in range(1, 1 + NEGATIVES - len(hard))]
        found.append(Recognition(scorer.identifier, own[index], [*hard, *more]))
    return found


def benchmark_decisions(scorer: Scorer, drawn: Sequence[Trial], seed: int = BENCHMARK_SEED) -> list[CaseDecisions]:
    """The decisions on own pictures, on corrupted ones, on swapped palettes and on hard negatives."""
    rng, known = np.random.default_rng(seed), recognitions(scorer, drawn)
    groups: dict[str, list[Pictures]] = {"own": [trial.own for trial in drawn]}
    for name, corrupt in CORRUPTIONS.items():
        groups[name] = [[corrupt(picture, rng) for picture in trial.own] for trial in drawn]
    groups["swapped palette"] = [trial.swapped for trial in drawn]
    groups["hard negatives"] = [[pictures[1] for pictures in trial.negatives] for trial in drawn]
    return [
        CaseDecisions(
            case, [one.decisions(scorer.extract_features(pictures)) for one, pictures in zip(known, group, strict=True)]
        )
        for case, group in groups.items()
    ]
