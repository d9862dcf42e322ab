"""Captions and masks of the opened concept's pictures."""

from contextlib import suppress
from typing import Any

import gradio as gr

from concepts import Concept, Library, read_picture
from concepts.errors import StudioError
from ui.services.workflow import Workflow
from ui.web import html
from ui.web.masks import brush, mask_from_uri, uri_of_mask
from ui.web.tabs.events import listen, problem_spot
from ui.web.thumbnails import fitted

_HINT = (
    "Paint over what is to be learned; where nothing is painted, the whole picture counts. A training uses the "
    "captions and masks that there are."
)
_Place = tuple[str, int]
"""A concept's name and the number of one of its pictures, from 0."""
_CLICKED = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-picture]');
  if (target) trigger('click', { ...target.dataset });
});
"""


def annotate_panel(workflow: Workflow, opened: gr.State) -> None:
    """Fills the panel, which follows the opened concept."""
    library, chosen = workflow.library, gr.State(("", 0))
    strip = gr.HTML(js_on_load=_CLICKED, elem_id="pictures")
    with gr.Accordion("Caption and mask", open=False, elem_id="annotate"):
        caption, painting, save = _form()
        problem = problem_spot()
        message = gr.HTML(elem_classes="spot")
    shown = [strip, caption, painting, message]

    def show(name: str, number: int = 0) -> list[Any]:
        concept = library.concept(name) if name else None
        if concept is None or not concept.pictures:
            return ["", "", {}, ""]
        return [html.picture_strip(concept, number), concept.captions[number] or "", _brushed(concept, number), ""]

    def stored(name: str, number: int, text: str, painted: dict[str, Any] | None) -> str:
        """Stores what was changed and not saved yet, and says so."""
        concept = next(iter(library.find_concepts([name])), None) if name else None
        if concept is None or number >= len(concept.pictures):
            return ""
        drawn, written = bool(painted and painted.get("drawn")), " ".join(text.split())
        if drawn:
            _store_mask(library, name, number, str((painted or {}).get("mask", "")))
        if written != (concept.captions[number] or ""):
            library.annotations.set_caption(name, number, text)
        elif not drawn:
            return ""
        return html.note(f"Saved for picture {number + 1}.", "good")

    def click(place: _Place, text: str, painted: dict[str, Any] | None, event: gr.EventData) -> list[Any]:
        told = stored(*place, text, painted)
        number = int((event._data or {}).get("picture", 0))
        return [(place[0], number), *show(place[0], number)[:-1], told]

    def store(place: _Place, text: str, painted: dict[str, Any] | None) -> list[Any]:
        told = stored(*place, text, painted)
        return [*show(*place)[:-1], told or html.note("There was nothing to save.")]

    def change(name: str, place: _Place, text: str, painted: dict[str, Any] | None) -> list[Any]:
        with suppress(StudioError):  # the concept is closed, and nothing could be corrected any more
            stored(*place, text, painted)
        return [(name, 0), *show(name)]

    given = [chosen, caption, painting]
    listen(opened.change, change, [opened, *given], [chosen, *shown])
    listen(strip.click, click, given, [chosen, *shown], problem)
    listen(save.click, store, given, shown, problem)


def _form() -> tuple[gr.Textbox, gr.HTML, gr.Button]:
    """Caption, brush and button."""
    caption = gr.Textbox(
        "", label="Caption", lines=2, info="What this picture shows; the class word in it is replaced by the token.",
        placeholder="a dog asleep on a red sofa", elem_id="caption",
    )  # fmt: skip
    gr.HTML(html.note(_HINT))
    return caption, brush("brush"), gr.Button("Save caption and mask", size="sm", elem_id="annotate-save")


def _brushed(concept: Concept, number: int) -> dict[str, Any]:
    return {"picture": fitted(concept.pictures[number]), "mask": uri_of_mask(concept.masks[number]), "drawn": False}


def _store_mask(library: Library, name: str, number: int, uri: str) -> None:
    picture = library.concept(name).pictures[number]
    size = read_picture(picture, picture.name).size
    library.annotations.set_mask(name, number, mask_from_uri(uri, size))
