"""Means and spreads over the rows of a study."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def mean_of(values: Sequence[float]) -> float:
    """Their mean."""
    return sum(values) / len(values)


def summarised(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], measures: Sequence[str]) -> list[dict[str, Any]]:
    """Rows that agree in all `keys` as one line, in the order of their first occurrence: `n`, the number of rows, and
    each measure's mean, with its standard deviation as `…_spread`, None for a single row.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    found = []
    for values, members in groups.items():
        line: dict[str, Any] = {**dict(zip(keys, values, strict=True)), "n": len(members)}
        for measure in measures:
            measured = np.array([row[measure] for row in members])
            line[measure] = float(measured.mean())
            line[f"{measure}_spread"] = float(measured.std(ddof=1)) if len(members) > 1 else None
        found.append(line)
    return found


def with_spread(line: Mapping[str, Any], measure: str) -> str:
    """A measure of a line as a table shows it: mean ± spread, kept on one line."""
    spread = line[f"{measure}_spread"]
    return f"{line[measure]:.3f}" + ("" if spread is None else f"\u00a0±\u00a0{spread:.3f}")
