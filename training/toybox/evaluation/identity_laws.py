"""`python -m training.toybox.evaluation.identity_laws`: how well the bundled scorer's identity agrees with the eye.

The first rows are of individuals that it never saw, the later ones of the sample concepts, each picture of which
is judged by the four others. With `--calibrate` its thresholds are set anew first.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from concepts.samples import SAMPLES
from studio.bundled import TOYBOX_CLIP
from studio.metrics.clip import Scorer, load_scorer
from studio.metrics.identity import Recognition
from training.toybox.evaluation.hard_negatives import compared_with, sample_negatives, sample_pictures
from training.toybox.evaluation.verification import (
    CALIBRATION_SEED,
    CORRUPTIONS,
    LAW_SEED,
    Tested,
    calibrated,
    law_verdicts,
    trials,
)
from training.toybox.stages.identity import write_thresholds


def sample_verdicts(scorer: Scorer, seed: int = LAW_SEED) -> list[Tested]:
    """The decisions on the sample concepts' own pictures, each judged by the other ones, on corrupted pictures and on
    pictures of lookalikes.
    """
    rng, decisions = np.random.default_rng(seed), {}
    for name in SAMPLES:
        for index, one in _left_out(scorer, name):
            picture = sample_pictures(name)[index]
            groups = {"own": [picture], **{law: [make(picture, rng)] for law, make in CORRUPTIONS.items()}}
            shapes, palettes = sample_negatives(name)[:2], sample_negatives(name)[2:]
            groups["swapped palette"] = [pictures[index] for pictures in palettes]
            groups["another shape"] = [pictures[index] for pictures in shapes]
            for law, pictures in groups.items():
                decisions.setdefault(law, []).append(one.judged(scorer.extract_features(pictures)))
    return [Tested(f"samples: {law}", found) for law, found in decisions.items()]


def _left_out(scorer: Scorer, name: str) -> Iterator[tuple[int, Recognition]]:
    """For each picture of a sample, its place and what knows the sample by the other pictures."""
    pictures = sample_pictures(name)
    others = [
        scorer.extract_features(group)
        for group in (*sample_negatives(name), *map(sample_pictures, compared_with(name)))
    ]
    for index in range(len(pictures)):
        rest = scorer.extract_features([picture for place, picture in enumerate(pictures) if place != index])
        yield index, Recognition(scorer.identifier, rest, others)


def table(tested: list[Tested]) -> Table:
    """Every law with the share that counts, and the shares that pass each condition."""
    shown = Table("law", "counted", "of", "share", "nearest", "near enough", "intact")
    for one in tested:
        counted, total = one.counts
        parts = (
            np.mean([float(value) for decisions in one.decisions for value in getattr(decisions, name)])
            for name in ("nearest", "near", "intact")
        )
        shown.add_row(one.law, str(counted), str(total), f"{counted / total:.3f}", *(f"{part:.3f}" for part in parts))
    return shown


def calibrate(folder: Path, count: int | None = None) -> None:
    """Sets the thresholds of the scorer in the folder, on individuals that it never saw."""
    scorer = load_scorer(str(folder))
    drawn = trials(seed=CALIBRATION_SEED) if count is None else trials(count, CALIBRATION_SEED)
    write_thresholds(calibrated(scorer, drawn), folder)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=TOYBOX_CLIP)
    parser.add_argument("--calibrate", action="store_true")
    chosen = parser.parse_args()
    if chosen.calibrate:
        calibrate(chosen.folder)
    scorer = load_scorer(str(chosen.folder))
    assert scorer.identifier, "the folder has no identity network"
    Console().print(scorer.identifier.thresholds)
    Console().print(table([*law_verdicts(scorer, trials()), *sample_verdicts(scorer)]))


if __name__ == "__main__":
    main()
