"""Generated pictures that the page keeps: PNG files in the library's folder `generated`, each with its settings
inside.
"""

from collections.abc import Mapping
from glob import escape
from pathlib import Path

from PIL import Image

from concepts.errors import StudioError
from concepts.storage import atomic_write
from concepts.tables import new_id
from studio.models.a1111_parameters import KEY, parameters_text, read_parameters
from studio.models.generation_request import GenerationRequest, request_from_text
from training.reporting.image_grid import png_bytes

FOLDER = "generated"
FORMER_FOLDER = "painted"
"""What the folder was called before 0.1.0."""
MOST_PICTURES = 16
"""At a time, so that a page does not hold up the others for long."""
MASKS = "masks"
"""The folder with the masks of a picture's regions, beside the picture."""
_SHOWN = 24


def check_number(number: int | None) -> None:
    """Raises StudioError for more pictures than the page generates at a time."""
    if (number or 0) > MOST_PICTURES:
        raise StudioError(f"Too many images at a time. Choose at most {MOST_PICTURES}.")


def adopt_former(root: Path) -> None:
    """Gives the pictures that an earlier version kept their present folder."""
    if (root / FORMER_FOLDER).is_dir() and not (root / FOLDER).exists():
        (root / FORMER_FOLDER).rename(root / FOLDER)


def with_settings(
    picture: Image.Image, request: GenerationRequest, seed: int, further: Mapping[str, str] | None = None
) -> bytes:
    """A generated picture as a PNG file with its settings inside: our own record, A1111's text, and what is further."""
    text = {**request.text(seed), KEY: parameters_text(request, seed, picture.size)}
    return png_bytes(picture, {**text, **(further or {})})


def keep(root: Path, data: bytes) -> Path:
    """Stores a picture's PNG file under a generated name, and returns its path."""
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{new_id()}.png"
    atomic_write(path, data)
    return path


def save_masks(picture: Path, masks: Mapping[str, Image.Image]) -> None:
    """Saves the mask of each concept with a region in the folder `masks` beside a picture: cat-0.png has
    masks/cat-0.rex.png for rex.
    """
    if masks:
        (picture.parent / MASKS).mkdir(exist_ok=True)
    for name, mask in masks.items():
        atomic_write(picture.parent / MASKS / f"{picture.stem}.{name}.png", png_bytes(mask))


def masks_of(picture: Path) -> dict[str, Image.Image]:
    """The masks that `save_masks` saved for a picture, by concept."""
    found = sorted((picture.parent / MASKS).glob(f"{escape(picture.stem)}.*.png"))
    return {path.stem.removeprefix(f"{picture.stem}."): Image.open(path, formats=["PNG"]) for path in found}


def latest(root: Path) -> list[Path]:
    """The pictures generated last, the newest first."""
    found = [(path.stat().st_mtime_ns, path) for path in (root / FOLDER).glob("*.png")]
    return [path for _, path in sorted(found, reverse=True)[:_SHOWN]]


def settings_of(path: Path) -> tuple[GenerationRequest, list[str]]:
    """The settings inside a PNG file, of the studio or of A1111, and the names of those that have no place here.

    Raises StudioError for a file that has none, and ValidationError for values out of range.
    """
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            text = {str(key): value for key, value in picture.info.items()}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise StudioError(
            "The file has no generation settings in its metadata. Choose a PNG file that Concept Studio generated."
        ) from error
    if KEY not in text or "num_inference_steps" in text:
        return request_from_text(text), []
    values, ignored = read_parameters(str(text[KEY]))
    return GenerationRequest(**values), ignored
