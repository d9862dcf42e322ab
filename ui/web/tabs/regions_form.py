"""The regions of the Generate tab: found while sampling, drawn as boxes, or given as masks; and how they are shown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from concepts.errors import StudioError
from studio.models.generation_request import Box, GenerationRequest
from ui.web import html
from ui.web.assets import asset
from ui.web.form_fields import control

COLOURS = ("#35bda5", "#f2a65a", "#7aa5f0", "#e58fb5", "#b6c85a", "#b39ae6")
"""The colours of concepts, in the order of the prompt, as boxes.js draws them."""
_OPACITY, _SHOWN = 0.55, 384
"""How strongly masks are shown, and the least side of the image that shows them, in pixels."""


def region_controls() -> dict[str, Any]:
    """The controls, by name, in an accordion."""
    form: dict[str, Any] = {}
    with gr.Accordion("Regions", open=False, elem_id="places"):
        form["auto_regions"] = control(GenerationRequest, "auto_regions", "generate", label="Find regions")
        form["layout"] = gr.Radio(["free", "side by side", "one above the other"], value="free", label="Layout",
                                  info="Or draw: choose a name, then drag its box.")  # fmt: skip
        form["boxes"] = gr.HTML(
            html_template='<div class="boxes"></div>', js_on_load=asset("boxes.js"), value={"names": [], "boxes": {}},
            elem_id="boxes",
        )  # fmt: skip
        form["region_masks"] = gr.File(
            label="Masks", file_count="multiple", file_types=["image"], height=130, elem_id="generate-region_masks"
        )
        gr.HTML(html.note("A mask is white where the concept is, and its file is named like the concept: rex.png."))
    return form


def regions_given(
    placed: Mapping[str, Any] | None, masks: Sequence[str] | None, names: Sequence[str]
) -> dict[str, Box | str]:
    """The boxes and mask files of these concepts; a mask comes before a box.

    Raises StudioError for a mask whose name is none of the concepts'.
    """
    boxes = (placed or {}).get("boxes") or {}
    regions: dict[str, Box | str] = {name: tuple(box) for name, box in boxes.items() if name in names}
    known = {name.lower(): name for name in names}
    for file in masks or ():
        name = known.get(Path(file).stem.lower())
        if name is None:
            raise StudioError(
                f"The mask {Path(file).name} is named like no concept of the prompt. Name it {names[0]}.png."
                if names
                else f"The prompt names no concept for the mask {Path(file).name}. Name one, as <rex>."
            )
        regions[name] = file
    return regions


def overlaid(picture: Image.Image, masks: Mapping[str, Image.Image], names: Sequence[str]) -> Image.Image:
    """The picture, enlarged if it is small, with each concept's mask over it in the colour of the concept's place among
    these names.
    """
    times = max(1, -(-_SHOWN // max(picture.size)))
    picture = picture.resize((times * picture.width, times * picture.height), Image.Resampling.LANCZOS)
    shown = np.asarray(picture.convert("RGB"), np.float32)
    order = {name.lower(): index for index, name in enumerate(names)}
    for name, mask in masks.items():
        index = order.get(name.lower(), len(order))
        colour = np.array([int(COLOURS[index % len(COLOURS)][at : at + 2], 16) for at in (1, 3, 5)], np.float32)
        weight = np.asarray(mask.convert("L").resize(picture.size), np.float32)[..., None] / 255 * _OPACITY
        shown = shown * (1 - weight) + colour * weight
    return Image.fromarray(shown.round().astype(np.uint8))
