"""The criteria of the composition study: which claims hold, with means and standard deviations over seeds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from training.studies.summaries import mean_of

COUNT = 3
"""The number of concepts at which the claims are evaluated."""
DEFAULT = "spectral_additive+spectral"
BASELINES = ("lora+fedavg", "lora+fedavg+average", "orthogonal+orthogonal", "orthogonal+orthogonal+average")
LIMITS = (
    ("alone_identity_worst", "identity accuracy of the worst of 3 concepts, one at a time", 0.85, True),
    ("region_identity_worst", "identity accuracy of the worst of 3 regions", 0.70, True),
    ("leak_class_word", "leakage to the class word (cosine distance)", 0.05, False),
    ("leak_unrelated", "leakage to unrelated prompts (cosine distance)", 0.02, False),
)
"""A metric, its description, its limit, and whether higher is better."""
COMPARED = {"alone_image_alignment": "one at a time", "region_image_alignment": "by region"}

Rows = Sequence[Mapping[str, Any]]


def evaluate_claims(rows: Rows) -> list[dict[str, Any]]:
    """A line for each claim that the rows can decide, with `COUNT` concepts.

    Limits of the default pair hold if the mean over the seeds meets them; the pair is better than a baseline if the
    mean difference of image alignment, at the same seed, is above the differences' standard deviation.
    """
    by_pair = {
        pair: {row["seed"]: row for row in rows if (row["pair"], row["count"]) == (pair, COUNT)}
        for pair in (DEFAULT, *BASELINES)
    }
    own = by_pair[DEFAULT]
    lines = []
    for measure, words, limit, above in LIMITS if own else ():
        claim = f"{words}: {'at least' if above else 'under'} {limit:g}"
        lines.append(_line(claim, [own[seed][measure] for seed in sorted(own)], _limited(limit, above)))
    for baseline in BASELINES:
        shared = sorted(own.keys() & by_pair[baseline].keys())
        for measure, words in COMPARED.items() if shared else ():
            differences = [own[seed][measure] - by_pair[baseline][seed][measure] for seed in shared]
            claim = f"image alignment {words}, minus that of {baseline}: above its standard deviation"
            lines.append(_line(claim, differences, _beyond_spread))
    return lines


def claims_summary(lines: Sequence[Mapping[str, Any]]) -> str:
    """The claims in one paragraph."""
    if not lines:
        return f"Not evaluated: this needs rows of {DEFAULT} with {COUNT} concepts."
    holding = sum(line["holds"] == "yes" for line in lines)
    return (
        f"Of {len(lines)} claims for {DEFAULT} with {COUNT} concepts {holding} hold. Each is evaluated by the mean "
        "over its seeds, with the standard deviation beside it: where they are similar, more seeds may change it."
    )


def _limited(limit: float, above: bool) -> Callable[[Sequence[float]], bool]:
    return lambda values: mean_of(values) >= limit if above else mean_of(values) < limit


def _beyond_spread(values: Sequence[float]) -> bool | None:
    """Whether the mean is above the standard deviation; None for a single value."""
    return mean_of(values) > float(np.std(values, ddof=1)) if len(values) > 1 else None


def _line(claim: str, values: Sequence[float], holds: Callable[[Sequence[float]], bool | None]) -> dict[str, Any]:
    decided = {True: "yes", False: "no", None: "undecided with one seed"}[holds(values)]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"claim": claim, "mean": mean_of(values), "standard deviation": spread, "seeds": len(values),
            "holds": decided}  # fmt: skip
