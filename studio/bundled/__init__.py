"""What ships with the studio: toybox, a small text-to-image base; toybox-clip, its scorer; and what methods cost."""

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
TOYBOX = _FOLDER / "toybox"
TOYBOX_CLIP = _FOLDER / "toybox-clip"
ADAPTER_COSTS = _FOLDER / "adapter_costs.json"
"""The tables of `studio.adapters.cost_table` by architecture, which are read without torch."""


def stored_cost_table(architecture: str) -> dict[str, dict[str, Any]] | None:
    """The stored table of an architecture, with every method's defaults; None where none is stored."""
    return json.loads(ADAPTER_COSTS.read_text(encoding="utf-8")).get(architecture)
