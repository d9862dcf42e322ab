"""The criteria of the efficiency study: spectral rotations with a tenth of LoRA's parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CANDIDATE, REFERENCE, BASELINES = "spectral_rotational", "lora", ("oft", "lidb")
WITHIN = 0.02
"""The maximum difference of image alignment below LoRA of rank 1."""

Rows = Sequence[Mapping[str, Any]]


def evaluate_claims(rows: Rows) -> list[dict[str, Any]]:
    """One line for each comparison that the rows can decide: the two sizes, the difference of image alignment in pairs
    of the same concept and seed with its standard deviation, and whether the claim holds.

    The candidate is the largest spectral rotation with at most a tenth of LoRA's smallest size; a baseline has the
    largest of its sizes within the same tenth, or its smallest.
    """
    references = _sizes(rows, REFERENCE)
    small = [size for size in _sizes(rows, CANDIDATE) if references and size <= references[0] / 10]
    if not small:
        return []
    lines = [_compared(rows, small[-1], REFERENCE, references[0], -WITHIN)]
    for baseline in BASELINES:
        if sizes := _sizes(rows, baseline):
            lines.append(
                _compared(
                    rows, small[-1], baseline, max([s for s in sizes if s <= references[0] / 10] or sizes[:1]), 0.0
                )
            )
    return lines


def _sizes(rows: Rows, method: str) -> list[int]:
    return sorted({row["trained"] for row in rows if row["method"] == method})


def _compared(rows: Rows, own: int, method: str, size: int, least: float) -> dict[str, Any]:
    ours, theirs = _by_training(rows, CANDIDATE, own), _by_training(rows, method, size)
    differences = np.array([ours[key] - theirs[key] for key in ours.keys() & theirs.keys()])
    mean = float(differences.mean()) if len(differences) else None
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else None
    return {
        "compared": f"{CANDIDATE} with {own:,} − {method} with {size:,}", "difference of image alignment": mean,
        "its standard deviation": spread, "trainings": len(differences), "should be": f"at least {least:g}",
        "holds": "not measured" if mean is None else "yes" if mean >= least else "no",
    }  # fmt: skip


def _by_training(rows: Rows, method: str, size: int) -> dict[tuple[str, int], float]:
    return {
        (row["concept"], row["seed"]): row["image_alignment"]
        for row in rows if (row["method"], row["trained"]) == (method, size)
    }  # fmt: skip
