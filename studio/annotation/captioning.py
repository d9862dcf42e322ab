"""Captions pictures with BLIP or Florence-2."""

from typing import Any, Protocol

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from concepts.errors import StudioError
from studio.hub_access import hub_access
from studio.models.loading import libraries_silent

MAX_NEW_TOKENS = 64
"""Maximum number of tokens of a caption."""


class Captioner(Protocol):
    """Captions a picture."""

    def caption(self, picture: Image.Image) -> str:
        """The caption of an RGB picture, one line."""
        ...


class ImageToText:
    """BLIP, which needs no instruction, or Florence-2, which takes a task prompt."""

    def __init__(self, model: Any, processor: Any, task: str = ""):
        self.processor = processor
        self._model, self._task = model.eval(), task

    def caption(self, picture: Image.Image) -> str:
        """The caption of an RGB picture, one line."""
        return " ".join(self.answer(picture, self._task).split())

    @torch.inference_mode()
    def answer(self, picture: Image.Image, task: str, special: bool = False) -> str:
        """The model's output text for a picture, with special tokens if `special`."""
        words = {"text": task} if task else {}
        inputs = self.processor(images=picture, return_tensors="pt", **words)
        written = self._model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        return self.processor.batch_decode(written, skip_special_tokens=not special)[0]


_TASKS = {"blip": "", "florence2": "<DETAILED_CAPTION>"}


@hub_access()
def load_captioner(source: str) -> ImageToText:
    """BLIP or Florence-2, from a folder or the hub; StudioError for anything else."""
    try:
        with libraries_silent():
            model: Any = AutoModelForImageTextToText.from_pretrained(source)
            task = _TASKS[model.config.model_type]
            return ImageToText(model, AutoProcessor.from_pretrained(source), task)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise StudioError(
            f"{source!r} could not be loaded as a BLIP or Florence-2 model. Give a folder or a Hugging Face "
            "Hub model ID."
        ) from error
