"""Recipes to begin with, by name."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"steps": 80, "preview_every": 40},
    "standard": {"steps": 120, "preview_every": 60},
    "thorough": {"steps": 300, "prior_pictures": 96, "preview_every": 100},
}
"""What each changes of the recipe's defaults. On toybox the standard one is what the README's figures are of."""
