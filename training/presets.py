"""Recipes to begin with, by name."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"steps": 150},
    "standard": {"steps": 300},
    "thorough": {"steps": 600, "prior_pictures": 96},
}
"""What each changes of the recipe's defaults. On toybox the standard one is what the README's figures are of."""
