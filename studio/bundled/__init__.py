"""The models that ship with the studio: toybox, a small text-to-image base, and toybox-clip, its scorer."""

from pathlib import Path

_FOLDER = Path(__file__).parent
TOYBOX = _FOLDER / "toybox"
TOYBOX_CLIP = _FOLDER / "toybox-clip"
