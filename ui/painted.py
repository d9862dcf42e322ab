"""Painted pictures that the page keeps: PNG files in the library's folder `painted`, each with its settings inside."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from concepts.records import new_id
from concepts.storage import atomic_write
from studio.errors import StudioError
from training.pictures import png_bytes
from ui.request import PaintRequest, request_from_text

FOLDER = "painted"
MOST_PICTURES = 16
"""At a time, so that a page does not hold up the others for long."""
_SHOWN = 12


def check_number(number: int | None) -> None:
    """Raises StudioError for more pictures than the page paints at a time."""
    if (number or 0) > MOST_PICTURES:
        raise StudioError(f"Ask for at most {MOST_PICTURES} pictures at a time.")


def keep(root: Path, picture: Image.Image, text: Mapping[str, str]) -> Path:
    """Stores a picture with its settings under a generated name, and returns its path."""
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{new_id()}.png"
    atomic_write(path, png_bytes(picture, text))
    return path


def latest(root: Path) -> list[Path]:
    """The pictures painted last, the newest first."""
    found = [(path.stat().st_mtime_ns, path) for path in (root / FOLDER).glob("*.png")]
    return [path for _, path in sorted(found, reverse=True)[:_SHOWN]]


def settings_of(path: Path) -> PaintRequest:
    """The settings inside a PNG file. Raises StudioError for a file that has none."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return request_from_text({str(key): value for key, value in picture.info.items()})
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise StudioError("Choose a PNG file that was painted here: this one keeps no settings.") from error
