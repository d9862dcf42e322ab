"""Presets of recipes, by name."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"steps": 80, "validation_steps": 40},
    "standard": {"steps": 120, "validation_steps": 60},
    "thorough": {"steps": 300, "num_class_images": 96, "validation_steps": 100},
}
"""Each preset's changes of the recipe's defaults. The figures in docs/how-to/training.md are of the standard one."""
