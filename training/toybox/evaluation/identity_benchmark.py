"""`python -m training.toybox.evaluation.identity_benchmark`: the accuracy of the bundled scorer's identity network.

The first rows are of unseen individuals, the later ones of the sample concepts, where each picture is verified against
the four others. With `--calibrate` the thresholds are set first.
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
    BENCHMARK_SEED,
    CALIBRATION_SEED,
    CORRUPTIONS,
    CaseDecisions,
    benchmark_decisions,
    calibrated_thresholds,
    trials,
)
from training.toybox.stages.identity import write_thresholds


def sample_decisions(scorer: Scorer, seed: int = BENCHMARK_SEED) -> list[CaseDecisions]:
    """The decisions on the sample concepts' own pictures, each verified against the others, on corrupted pictures and
    on pictures of hard negatives.
    """
    rng, decisions = np.random.default_rng(seed), {}
    for name in SAMPLES:
        for index, one in _left_out(scorer, name):
            picture = sample_pictures(name)[index]
            groups = {"own": [picture], **{case: [make(picture, rng)] for case, make in CORRUPTIONS.items()}}
            shapes, palettes = sample_negatives(name)[:2], sample_negatives(name)[2:]
            groups["swapped palette"] = [pictures[index] for pictures in palettes]
            groups["another shape"] = [pictures[index] for pictures in shapes]
            for case, pictures in groups.items():
                decisions.setdefault(case, []).append(one.decisions(scorer.extract_features(pictures)))
    return [CaseDecisions(f"samples: {case}", found) for case, found in decisions.items()]


def _left_out(scorer: Scorer, name: str) -> Iterator[tuple[int, Recognition]]:
    """Leave-one-out: for each picture of a sample, its index and a verifier by the other pictures."""
    pictures = sample_pictures(name)
    others = [
        scorer.extract_features(group)
        for group in (*sample_negatives(name), *map(sample_pictures, compared_with(name)))
    ]
    for index in range(len(pictures)):
        rest = scorer.extract_features([picture for place, picture in enumerate(pictures) if place != index])
        yield index, Recognition(scorer.identifier, rest, others)


def table(cases: list[CaseDecisions]) -> Table:
    """Every case with the share that counts, and the shares that pass each condition."""
    shown = Table("case", "counted", "of", "share", "nearest", "near enough", "intact")
    for one in cases:
        counted, total = one.counts
        parts = (
            np.mean([float(value) for decisions in one.decisions for value in getattr(decisions, name)])
            for name in ("nearest", "near", "intact")
        )
        shown.add_row(one.case, str(counted), str(total), f"{counted / total:.3f}", *(f"{part:.3f}" for part in parts))
    return shown


def calibrate(folder: Path, count: int | None = None) -> None:
    """Sets the thresholds of the scorer in the folder, on unseen individuals."""
    scorer = load_scorer(str(folder))
    drawn = trials(seed=CALIBRATION_SEED) if count is None else trials(count, CALIBRATION_SEED)
    write_thresholds(calibrated_thresholds(scorer, drawn), folder)


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
    Console().print(table([*benchmark_decisions(scorer, trials()), *sample_decisions(scorer)]))


if __name__ == "__main__":
    main()
