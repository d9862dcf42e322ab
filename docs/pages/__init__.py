"""The generated pages of the reference, a module for each."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LAYERS = ("concepts", "studio", "training", "ui")
