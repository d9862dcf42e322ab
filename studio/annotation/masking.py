"""Masks of what a picture is about, by models that the user has, behind one interface."""

import importlib
from typing import Any, Protocol

from PIL import Image, ImageDraw

from concepts.errors import StudioError
from studio.annotation.captioning import ImageToText, load_captioner

_TASK = "<REFERRING_EXPRESSION_SEGMENTATION>"


class Masker(Protocol):
    """Finds what a picture is about."""

    def mask(self, picture: Image.Image, subject: str) -> Image.Image:
        """A grey picture of the same size, white where the subject is; `subject` says what to look for, as in dog."""
        ...


class Rembg:
    """rembg, which finds whatever stands out and does not read the subject."""

    def __init__(self, remove: Any, session: Any):
        self._remove, self._session = remove, session

    def mask(self, picture: Image.Image, subject: str) -> Image.Image:
        """White where something stands out."""
        return self._remove(picture, session=self._session, only_mask=True).convert("L")


class FlorenceSegmenter:
    """Florence-2, which is asked for the outline of the subject."""

    def __init__(self, model: ImageToText):
        self._model = model

    def mask(self, picture: Image.Image, subject: str) -> Image.Image:
        """White inside the outlines that the model gives; all white where it gives none, so that nothing is lost."""
        written = self._model.answer(picture, f"{_TASK}{subject}", special=True)
        found = self._model.processor.post_process_generation(written, task=_TASK, image_size=picture.size)[_TASK]
        drawn = Image.new("L", picture.size)
        for outline in (one for shape in found["polygons"] for one in shape):
            if len(outline) >= 6:
                ImageDraw.Draw(drawn).polygon(outline, fill=255)
        return drawn if drawn.getbbox() else Image.new("L", picture.size, 255)


def load_masker(source: str = "rembg") -> Masker:
    """rembg, with a model as in rembg/isnet-general-use, or Florence-2 from a folder or the hub.

    Raises StudioError where there is no such model, or rembg is not installed.
    """
    name, _, model = source.partition("/")
    if name != "rembg":
        asked = load_captioner(source)
        if not hasattr(asked.processor, "post_process_generation"):
            raise StudioError(f"Give rembg or Florence-2 for masks: {source!r} can only write captions.")
        return FlorenceSegmenter(asked)
    try:
        rembg = importlib.import_module("rembg")
        return Rembg(rembg.remove, rembg.new_session(model or "u2net"))
    except ImportError as error:
        raise StudioError("Install rembg for masks: uv pip install 'concept-studio[masks]'.") from error
    except (ValueError, OSError) as error:
        raise StudioError(f"Give a model that rembg knows: {source!r} could not be loaded.") from error
