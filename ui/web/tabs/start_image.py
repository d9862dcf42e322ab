"""The start image of the Generate tab, and the brush for its mask."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from concepts import read_picture
from concepts.errors import StudioError
from studio.models.generation_request import GenerationRequest
from studio.models.img2img.denoising_strength import DENOISING_STRENGTH, MASK_BLUR, strength_or_default
from ui.web import html
from ui.web.form_fields import control
from ui.web.masks import brush, mask_from_uri
from ui.web.tabs.events import about, listen
from ui.web.thumbnails import shrunk

START_SETTINGS = ("denoising_strength", "mask_blur")
"""The settings that a request has only with a start image."""
_HINT = (
    "The images begin from this picture. Paint over what is to be repainted, and the rest of the picture stays as it "
    "is; where nothing is painted, all of it may change."
)


def start_image_controls() -> dict[str, Any]:
    """The controls, by name, in an accordion."""
    form: dict[str, Any] = {}
    with gr.Accordion("Start from a picture", open=False, elem_id="start-image"):
        form["image"] = gr.File(label="Start image", height=100, elem_id="generate-image")
        gr.HTML(html.note(_HINT))
        form["mask"] = brush("generate-mask")
        form["denoising_strength"] = control(
            GenerationRequest, "denoising_strength", "generate", minimum=0.05, maximum=1, step=0.05,
            value=DENOISING_STRENGTH,
        )  # fmt: skip
        form["mask_blur"] = control(
            GenerationRequest, "mask_blur", "generate", minimum=0, maximum=64, step=1, value=MASK_BLUR
        )
    return form


def start_image_events(form: Mapping[str, Any]) -> None:
    """Shows an uploaded picture under the brush. The strength follows whether a mask is painted, as long as it is one
    of the two defaults.
    """

    def show(image: str | None) -> dict[str, Any]:
        return {"picture": shrunk(_picture(image)), "mask": "", "drawn": False} if image else {}

    def follow(painted: dict[str, Any] | None, strength: float) -> Any:
        masked = _mask(painted, (64, 64)) is not None
        is_default = strength == strength_or_default(None, not masked)
        return strength_or_default(None, masked) if is_default else gr.skip()

    strength = form["denoising_strength"]
    listen(form["image"].change, show, [form["image"]], [form["mask"]], form["problem"])
    listen(form["mask"].change, follow, [form["mask"], strength], [strength], form["problem"])


def start_settings(
    image: str | None, painted: dict[str, Any] | None, settings: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """The fields of a request for an uploaded picture and what was painted over it, which becomes a file of the folder;
    nothing without a picture.
    """
    if not image:
        return {}
    found: dict[str, Any] = {"image": image, "denoising_strength": settings["denoising_strength"]}
    mask = _mask(painted, _picture(image).size)
    if mask is not None:
        mask.save(folder / "mask.png")
        found |= {"mask": str(folder / "mask.png"), "mask_blur": settings["mask_blur"]}
    return found


def shown_start_settings(request: GenerationRequest) -> dict[str, float]:
    """What the sliders hold for a request."""
    blur = MASK_BLUR if request.mask_blur is None else request.mask_blur
    strength = strength_or_default(request.denoising_strength, request.mask is not None)
    return {"denoising_strength": strength, "mask_blur": blur}


def _picture(image: str) -> Any:
    with about("generate-image", (StudioError,)):
        return read_picture(Path(image), Path(image).name)


def _mask(painted: dict[str, Any] | None, size: tuple[int, int]) -> Any:
    """What was painted, in this size; None where nothing was."""
    if not (painted and painted.get("drawn")):
        return None
    with about("generate-mask"):
        return mask_from_uri(str(painted.get("mask", "")), size)
