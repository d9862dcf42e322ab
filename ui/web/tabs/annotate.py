"""Captions and masks of the opened concept's pictures."""

from typing import Any

import gradio as gr

from concepts import Concept, Library, read_picture
from ui.services.workflow import Workflow
from ui.web import html
from ui.web.assets import asset
from ui.web.masks import mask_from_uri, uri_of_mask
from ui.web.tabs.events import listen, problem_spot
from ui.web.thumbnails import fitted

_HINT = (
    "Paint over what is to be learned; where nothing is painted, the whole picture counts. For a training that uses "
    "captions and masks, open Every option in the tab Train, choose Captions: files, and tick Masked loss."
)
_CLICKED = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-picture]');
  if (target) trigger('click', { ...target.dataset });
});
"""


def annotate_panel(workflow: Workflow, opened: gr.State) -> None:
    """Fills the panel, which follows the opened concept."""
    library, chosen = workflow.library, gr.State(0)
    strip = gr.HTML(js_on_load=_CLICKED, elem_id="pictures")
    with gr.Accordion("Caption and mask", open=False, elem_id="annotate"):
        caption, brush, save = _form()
        problem = problem_spot()
        message = gr.HTML(elem_classes="spot")
    shown = [strip, caption, brush, message]

    def show(name: str, number: int = 0) -> list[Any]:
        concept = library.concept(name) if name else None
        if concept is None or not concept.pictures:
            return ["", "", {}, ""]
        return [html.picture_strip(concept, number), concept.captions[number] or "", _brushed(concept, number), ""]

    def click(name: str, event: gr.EventData) -> list[Any]:
        number = int((event._data or {}).get("picture", 0))
        return [number, *show(name, number)]

    def store(name: str, number: int, text: str, painted: dict[str, Any] | None) -> list[Any]:
        if painted and painted.get("drawn"):
            _store_mask(library, name, number, str(painted.get("mask", "")))
        library.annotations.set_caption(name, number, text)
        return [*show(name, number)[:-1], html.note(f"Saved for picture {number + 1}.", "good")]

    listen(opened.change, lambda name: [0, *show(name)], [opened], [chosen, *shown])
    listen(strip.click, click, [opened], [chosen, *shown])
    listen(save.click, store, [opened, chosen, caption, brush], shown, problem)


def _form() -> tuple[gr.Textbox, gr.HTML, gr.Button]:
    """Caption, brush and button."""
    caption = gr.Textbox(
        "", label="Caption", lines=2, info="What this picture shows; the class word in it is replaced by the token.",
        placeholder="a dog asleep on a red sofa", elem_id="caption",
    )  # fmt: skip
    gr.HTML(html.note(_HINT))
    brush = gr.HTML(html_template='<div class="brush"></div>', js_on_load=asset("brush.js"), value={}, elem_id="brush")
    return caption, brush, gr.Button("Save caption and mask", size="sm", elem_id="annotate-save")


def _brushed(concept: Concept, number: int) -> dict[str, Any]:
    return {"picture": fitted(concept.pictures[number]), "mask": uri_of_mask(concept.masks[number]), "drawn": False}


def _store_mask(library: Library, name: str, number: int, uri: str) -> None:
    picture = library.concept(name).pictures[number]
    size = read_picture(picture, picture.name).size
    library.annotations.set_mask(name, number, mask_from_uri(uri, size))
