"""What the composition study's rows say, claim by claim: what holds, what does not, and how sure that is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from training.studies.summaries import mean_of

COUNT = 3
"""The number of concepts at which the claims are judged."""
DEFAULT = "spectral_additive+spectral"
RIVALS = ("lora+fedavg", "lora+fedavg+average", "orthogonal+orthogonal", "orthogonal+orthogonal+average")
LIMITS = (
    ("alone_identity_worst", "identity accuracy of the worst of 3 concepts, one at a time", 0.85, True),
    ("region_identity_worst", "identity accuracy of the worst of 3 regions", 0.70, True),
    ("leak_class_word", "leak to the class word (cosine distance)", 0.05, False),
    ("leak_unrelated", "leak to unrelated prompts (cosine distance)", 0.02, False),
)
"""A measure, its words, what it should be, and whether more is better."""
COMPARED = {"alone_image_alignment": "one at a time", "region_image_alignment": "by region"}

Rows = Sequence[Mapping[str, Any]]


def verdicts(rows: Rows) -> list[dict[str, Any]]:
    """A line for each claim that the rows allow, of `COUNT` concepts.

    Limits of the default pair hold if the mean over the seeds does; it is ahead of a rival if the mean of the
    differences of image alignment, of the same seed, is above their standard deviation.
    """
    by_pair = {
        pair: {row["seed"]: row for row in rows if (row["pair"], row["count"]) == (pair, COUNT)}
        for pair in (DEFAULT, *RIVALS)
    }
    own = by_pair[DEFAULT]
    lines = []
    for measure, words, limit, above in LIMITS if own else ():
        claim = f"{words}: {'at least' if above else 'under'} {limit:g}"
        lines.append(_line(claim, [own[seed][measure] for seed in sorted(own)], _limited(limit, above)))
    for rival in RIVALS:
        shared = sorted(own.keys() & by_pair[rival].keys())
        for measure, words in COMPARED.items() if shared else ():
            ahead = [own[seed][measure] - by_pair[rival][seed][measure] for seed in shared]
            claim = f"image alignment {words}, less that of {rival}: above its spread"
            lines.append(_line(claim, ahead, _beyond_spread))
    return lines


def said(lines: Sequence[Mapping[str, Any]]) -> str:
    """The claims in one paragraph."""
    if not lines:
        return f"Not judged: this needs rows of {DEFAULT} with {COUNT} concepts."
    holding = sum(line["holds"] == "yes" for line in lines)
    return (
        f"Of {len(lines)} claims for {DEFAULT} with {COUNT} concepts {holding} hold. Each is judged by the mean over "
        "its seeds, with the standard deviation beside it: where the two are of one size, more seeds may turn it."
    )


def _limited(limit: float, above: bool) -> Callable[[Sequence[float]], bool]:
    return lambda values: mean_of(values) >= limit if above else mean_of(values) < limit


def _beyond_spread(values: Sequence[float]) -> bool | None:
    """Whether their mean is above their deviation; None for a single one, which has none."""
    return mean_of(values) > float(np.std(values, ddof=1)) if len(values) > 1 else None


def _line(claim: str, values: Sequence[float], holds: Callable[[Sequence[float]], bool | None]) -> dict[str, Any]:
    decided = {True: "yes", False: "no", None: "one seed cannot say"}[holds(values)]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"claim": claim, "mean": mean_of(values), "standard deviation": spread, "seeds": len(values),
            "holds": decided}  # fmt: skip
