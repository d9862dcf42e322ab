"""The opened concept: its facts, name and class word, pictures, and what can be done with it."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from ui.services.workflow import Workflow
from ui.web import html
from ui.web.tabs.annotate import annotate_panel
from ui.web.tabs.events import listen, problem_spot
from ui.web.tabs.import_export import export_panel


def details_panel(workflow: Workflow) -> dict[str, Any]:
    """Fills the panel, which is hidden until a concept is opened; its parts by name."""
    opened = gr.State("")
    with gr.Column(visible=False, elem_id="details") as group:
        title = gr.Markdown()
        facts = gr.HTML(elem_classes="spot")
        with gr.Row():
            name = gr.Textbox(label="Name", min_width=120, max_lines=1)
            word = gr.Textbox(label="Class word", min_width=120, max_lines=1)
        problem = problem_spot()
        with gr.Row():
            save = gr.Button("Save", size="sm", min_width=80)
            remove = gr.Button("Remove", variant="stop", size="sm", min_width=80)
            close = gr.Button("Close", size="sm", min_width=80)
        annotate_panel(workflow, opened)
        export_panel(workflow, opened)
    return {
        "opened": opened, "group": group, "title": title, "facts": facts, "name": name, "word": word,
        "problem": problem, "save": save, "remove": remove, "close": close,
    }  # fmt: skip


def detail_events(
    workflow: Workflow, details: dict[str, Any], undo: gr.Button, shown: list[Any], cards: Callable[[], str]
) -> None:
    """What the panel's buttons do; `shown` are the cards and the sentence beside them."""
    library = workflow.library

    def save(name: str, new_name: str, word: str) -> tuple[Any, ...]:
        concept = library.rename_concept(name, new_name.strip(), word.strip())
        return cards(), html.note(f"Saved as {concept.name}.", "good"), concept.name, f"### {concept.name}"

    def remove(name: str) -> tuple[Any, ...]:
        removed = library.remove_concept(name, permanent=False)
        told = html.note(f"Removed {removed}. Its columns stay allocated until it is removed permanently.")
        return cards(), told, gr.Column(visible=False), gr.Button(f"Undo: restore {removed}", visible=True), removed

    def restore(name: str) -> tuple[Any, ...]:
        concept = library.restore_concept(name)
        told = html.note(f"Restored {concept.name}.", "good")
        return cards(), told, gr.Button(visible=False)

    opened, group, problem, removed = details["opened"], details["group"], details["problem"], gr.State("")
    listen(
        details["save"].click, save, [opened, details["name"], details["word"]],
        [*shown, opened, details["title"]], problem,
    )  # fmt: skip
    listen(details["remove"].click, remove, [opened], [*shown, group, undo, removed], problem)
    listen(undo.click, restore, [removed], [*shown, undo], problem)
    listen(details["close"].click, lambda: gr.Column(visible=False), [], [group])


def open_events(workflow: Workflow, cards: gr.HTML, message: gr.HTML, details: dict[str, Any]) -> None:
    """A click on a card opens its concept."""

    def open_one(event: gr.EventData) -> list[Any]:
        name = (event._data or {}).get("name")
        if not name:
            return [gr.skip()] * len(outputs)
        concept = workflow.library.concept(name)
        facts = html.concept_facts(concept)
        return ["", concept.name, gr.Column(visible=True), f"### {concept.name}", facts, concept.name,
                concept.class_word, ""]  # fmt: skip

    parts = [details[key] for key in ("opened", "group", "title", "facts", "name", "word", "problem")]
    outputs = [message, *parts]
    opening = listen(cards.click, open_one, [], outputs)
    opening.then(None, js="() => document.querySelector('#details')?.scrollIntoView({block: 'nearest'})")
