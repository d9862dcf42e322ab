"""Segments the subject of pictures with rembg or Florence-2."""

import importlib
from typing import Any, Protocol

from PIL import Image, ImageDraw

from concepts.errors import StudioError
from studio.annotation.captioning import ImageToText, load_captioner

_TASK = "<REFERRING_EXPRESSION_SEGMENTATION>"


class Masker(Protocol):
    """Segments the subject of a picture."""

    def mask(self, picture: Image.Image, subject: str) -> Image.Image:
        """A grey picture of the same size, white where the subject is; `subject` names it, as in dog."""
        ...


class Rembg:
    """rembg, which segments the foreground and ignores the subject's name."""

    def __init__(self, remove: Any, session: Any):
        self._remove, self._session = remove, session

    def mask(self, picture: Image.Image, subject: str) -> Image.Image:
        """White where the foreground is."""
        return self._remove(picture, session=self._session, only_mask=True).convert("L")


class FlorenceSegmenter:
    """Florence-2, with its task of referring expression segmentation."""

    def __init__(self, model: ImageToText):
        self._model = model

    def mask(self, picture: Image.Image, subject: str) -> Image.Image:
        """White inside the polygons that the model returns; all white where it returns none."""
        output = self._model.answer(picture, f"{_TASK}{subject}", special=True)
        found = self._model.processor.post_process_generation(output, task=_TASK, image_size=picture.size)[_TASK]
        mask = Image.new("L", picture.size)
        for outline in (one for shape in found["polygons"] for one in shape):
            if len(outline) >= 6:
                ImageDraw.Draw(mask).polygon(outline, fill=255)
        return mask if mask.getbbox() else Image.new("L", picture.size, 255)


def load_masker(source: str = "rembg") -> Masker:
    """rembg, with a model as in rembg/isnet-general-use, or Florence-2 from a folder or the hub.

    Raises StudioError where there is no such model, or rembg is not installed.
    """
    name, _, model = source.partition("/")
    if name != "rembg":
        asked = load_captioner(source)
        if not hasattr(asked.processor, "post_process_generation"):
            raise StudioError(f"{source!r} can only write captions. For masks, give rembg or Florence-2.")
        return FlorenceSegmenter(asked)
    try:
        rembg = importlib.import_module("rembg")
        return Rembg(rembg.remove, rembg.new_session(model or "u2net"))
    except ImportError as error:
        raise StudioError("rembg is not installed. Run uv sync --extra masks.") from error
    except (ValueError, OSError) as error:
        raise StudioError(f"{source!r} could not be loaded. Give a model that rembg has.") from error
