"""Checks uploaded, untrusted pictures while it reads them: format, size and integrity."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageCms, ImageOps

from concepts.errors import LibraryError, UnavailableError
from concepts.images.png_chunks import without_large_chunks
from concepts.storage import StoragePath, wrap_storage_errors

T = TypeVar("T")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
HEIF_SUFFIXES = frozenset({".heic", ".heif"})
MIN_SIDE = 64
MAX_PIXELS = 64_000_000
MAX_BYTES = 256 * 2**20  # more than MAX_PIXELS take as PNG, so that what is stored can be read again


def read_picture(source: StoragePath | bytes, name: str) -> Image.Image:
    """The picture in a file, or in a file's bytes, as it is meant to be seen: RGB, upright, on white.

    Reads JPEG, PNG, WEBP, GIF, BMP, TIFF and AVIF, and HEIC where pillow-heif is installed; of an animation, the first
    frame. EXIF orientation is applied, colours of an embedded profile become sRGB, transparency is composited on white,
    16-bit greys are scaled to 8, and all metadata is dropped, also what is too large for Pillow.

    Raises LibraryError, naming `name`: not a picture, damaged or truncated, under 64 pixels a side, over 64
    million pixels or over 256 MiB.
    """
    return _read(source, name, _as_rgb)


def read_alpha(source: StoragePath | bytes, name: str) -> Image.Image | None:
    """How opaque a picture is, as a grey picture of its upright size; None for one without transparency.

    Raises LibraryError as `read_picture` does.
    """
    return _read(source, name, _alpha)


def read_with_alpha(source: StoragePath | bytes, name: str) -> tuple[Image.Image, Image.Image | None]:
    """What `read_picture` and `read_alpha` give, decoded once."""
    return _read(source, name, lambda image: (_as_rgb(image), _alpha(image)))


def _read(source: StoragePath | bytes, name: str, convert: Callable[[Image.Image], T]) -> T:
    """What `convert` makes of the upright picture."""
    data = source if isinstance(source, bytes) else _read_file(source, name)
    if len(data) > MAX_BYTES:
        raise _too_big(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damage that Pillow can repair
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with _opened(data, name) as image:
            _check_size(image, name)
            return _decoded(image, name, convert)


def encode_png(image: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file, pixel for pixel."""
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _read_file(path: StoragePath, name: str) -> bytes:
    try:
        with wrap_storage_errors(path):
            if not path.is_file():  # also keeps from waiting on a pipe or a device
                raise LibraryError(f"There is no file {name}. Check the path.")
            if path.stat().st_size > MAX_BYTES:
                raise _too_big(name)
            return path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise UnavailableError(f"{name} could not be read ({reason}). Check its permissions.") from error


def _opened(data: bytes, name: str) -> Image.Image:
    formats = (*FORMATS, "HEIF") if _reads_heif() else FORMATS
    try:
        return Image.open(BytesIO(without_large_chunks(data)), formats=formats)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _too_big(name) from None
    except Exception as error:  # decoders answer hostile bytes with errors of every kind
        if Path(name).suffix.lower() in HEIF_SUFFIXES and not _reads_heif():
            raise LibraryError(
                f"{name} is a HEIC picture, for which pillow-heif is not installed. Run uv sync --extra heic, or save "
                "it as JPEG."
            ) from error
        raise LibraryError(f"{name} is not a picture. Give a {', '.join(formats)} file.") from error


@cache
def _reads_heif() -> bool:
    """Whether the optional pillow-heif is installed; Pillow then opens HEIC files, too."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _check_size(image: Image.Image, name: str) -> None:
    """Checks the size in the header before any pixel is decoded."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_big(name)
    if min(width, height) < MIN_SIDE:
        raise LibraryError(
            f"{name} has only {width}x{height} pixels. Give a picture with at least {MIN_SIDE} pixels on each side."
        )


def _decoded(image: Image.Image, name: str, convert: Callable[[Image.Image], T]) -> T:
    if image.mode in ("I", "F"):
        raise LibraryError(f"{name} has 32 bits per channel. Save it with 8 or 16 bits.")
    try:
        return convert(ImageOps.exif_transpose(image))
    except Exception as error:
        raise LibraryError(
            f"{name} is damaged, truncated or in an unsupported format. Open it in an image editor and save "
            "it again, or leave it out."
        ) from error


def _alpha(image: Image.Image) -> Image.Image | None:
    if not image.has_transparency_data or image.mode.startswith("I;16"):
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def _as_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit greys at 255; 65535 / 257 = 255
        image = image.convert("I").point(lambda value: value / 257).convert("L")
        image.info.pop("transparency", None)  # counted in 16 bits, so meaningless now
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    bare = Image.new("RGB", image.size, "white")  # a new picture carries no metadata
    bare.paste(_in_srgb(image, profile), mask=alpha)
    return bare


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The colours as sRGB (RGB, without alpha), by the embedded ICC profile where there is one that fits."""
    opaque = image if image.mode in ("L", "RGB", "CMYK") else image.convert("L" if image.mode == "LA" else "RGB")
    if profile:
        with suppress(ImageCms.PyCMSError, OSError):  # a profile that is damaged, or of another kind of colours
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(opaque, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            assert converted is not None, "only an inPlace conversion gives nothing back"
            return converted
    return opaque.convert("RGB")


def _too_big(name: str) -> LibraryError:
    return LibraryError(
        f"{name} is too large. Give a picture of at most {MAX_PIXELS // 10**6} million pixels and {MAX_BYTES // 2**20} "
        "MiB."
    )
