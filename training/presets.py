"""Recipes to begin with, by name."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"steps": 100, "preview_every": 50},
    "standard": {"steps": 200, "preview_every": 100},
    "thorough": {"steps": 400, "prior_pictures": 96, "preview_every": 100},
}
"""What each changes of the recipe's defaults. On toybox the standard one is what the README's figures are of."""
