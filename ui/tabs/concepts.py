"""The Concepts tab: the library as cards; adding, renaming, removing and bringing back."""

from pathlib import Path
from typing import Any

import gradio as gr

from concepts import LibraryError
from concepts.inspection import inspect_pictures
from concepts.library import MAX_PICTURES
from concepts.names import check_class_word, check_name
from concepts.samples import SAMPLES
from ui import fragments
from ui.tabs.events import listen
from ui.workflow import Workflow

_CLICKED = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-name], [data-sample]');
  if (target) trigger('click', { ...target.dataset });
});
"""


def concepts_tab(workflow: Workflow, page: gr.Blocks) -> None:
    """Fills the tab."""
    library = workflow.library
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            wanted = gr.Textbox(label="Find", placeholder="a part of a name or class word", elem_id="find", max_lines=1)
            message = gr.HTML(elem_classes="spot")
            cards = gr.HTML(js_on_load=_CLICKED, elem_id="cards")
            undo = gr.Button("Undo", visible=False, size="sm")
        with gr.Column(scale=2, min_width=320):
            opened = gr.State("")
            details = _details()
            form = _add_form()

    def shown(text: str = "") -> str:
        concepts = library.concepts()
        return fragments.concept_cards(concepts, text.strip()) if concepts else fragments.sample_cards("Add it")

    listen(page.load, shown, [wanted], [cards])
    listen(wanted.input, shown, [wanted], [cards], trigger_mode="always_last")
    _add_events(workflow, form, [cards, message], shown)
    _detail_events(workflow, details, opened, undo, [cards, message], shown)
    _open_events(workflow, cards, message, opened, details, shown)


def _add_form() -> dict[str, Any]:
    with gr.Column(elem_id="add-form", elem_classes="panel"):
        gr.Markdown("### Add a concept\nThree to ten pictures of one thing, in varied places and poses.")
        files = gr.File(label="Pictures", file_count="multiple", elem_id="add-files", height=140)
        report = gr.HTML(elem_classes="spot")
        name = gr.Textbox(label="Name", info="How you write it in prompts, <rex>.", placeholder="rex", max_lines=1)
        name_problem = gr.HTML(elem_classes="spot")
        word = gr.Textbox(label="Class word", info="What it is, in a word that the base knows.", placeholder="dog",
                          max_lines=1)  # fmt: skip
        word_problem = gr.HTML(elem_classes="spot")
        add = gr.Button("Add concept", variant="primary")
        files_problem = gr.HTML(elem_classes="spot")
    return {
        "files": files, "report": report, "name": name, "word": word, "add": add,
        "problems": [name_problem, word_problem, files_problem],
    }  # fmt: skip


def _add_events(workflow: Workflow, form: dict[str, Any], shown: list[Any], cards: Any) -> None:
    def inspected(files: list[str] | None) -> tuple[Any, Any, str]:
        paths = [Path(file) for file in files or ()]
        if len(paths) > MAX_PICTURES:
            return "", gr.Button(interactive=False), fragments.problem(f"Drop at most {MAX_PICTURES} pictures.")
        items = inspect_pictures(paths)
        good = sum(item.picture is not None for item in items)
        label = f"Add with {good} picture{'s' if good != 1 else ''}" if good else "Add concept"
        return fragments.inspection(items), gr.Button(label, interactive=True), ""

    def add(files: list[str] | None, name: str, word: str) -> list[Any]:
        name, word = name.strip(), word.strip()
        problems = [_refusal(check_name, name), _refusal(check_class_word, word), ""]
        good = [item.file for item in inspect_pictures([Path(f) for f in files or ()]) if item.picture]
        if not good:
            problems[2] = fragments.problem("Drop at least one picture that can be read.")
        if any(problems):
            return [*[gr.skip()] * 6, *problems]
        try:
            concept = workflow.library.add_concept(name, word, good)
        except LibraryError as error:
            return [*[gr.skip()] * 6, fragments.problem(str(error)), "", ""]
        told = fragments.note(f"Added {concept.name}. Train it next, in the tab Train.", "good")
        return [cards(), told, None, "", "", "", "", "", ""]

    files, report, name, word, button = (form[key] for key in ("files", "report", "name", "word", "add"))
    problems = form["problems"]
    listen(files.change, inspected, [files], [report, button, problems[2]])
    listen(button.click, add, [files, name, word], [*shown, files, report, name, word, *problems])


def _refusal(check: Any, value: str) -> str:
    try:
        check(value)
    except LibraryError as error:
        return fragments.problem(str(error))
    return ""


def _details() -> dict[str, Any]:
    with gr.Column(visible=False, elem_id="details", elem_classes="panel") as group:
        title = gr.Markdown()
        facts = gr.HTML(elem_classes="spot")
        with gr.Row():
            name = gr.Textbox(label="Name", min_width=120, max_lines=1)
            word = gr.Textbox(label="Class word", min_width=120, max_lines=1)
        problem = gr.HTML(elem_classes="spot")
        with gr.Row():
            save = gr.Button("Save", size="sm")
            remove = gr.Button("Remove", variant="stop", size="sm")
            close = gr.Button("Close", size="sm")
    return {
        "group": group, "title": title, "facts": facts, "name": name, "word": word, "problem": problem,
        "save": save, "remove": remove, "close": close,
    }  # fmt: skip


def _detail_events(
    workflow: Workflow, details: dict[str, Any], opened: gr.State, undo: gr.Button, shown: list[Any], cards: Any
) -> None:
    library = workflow.library

    def save(name: str, new_name: str, word: str) -> tuple[Any, ...]:
        concept = library.rename_concept(name, new_name.strip(), word.strip())
        return cards(), fragments.note(f"Saved as {concept.name}.", "good"), concept.name, f"### {concept.name}"

    def remove(name: str) -> tuple[Any, ...]:
        removed = library.remove_concept(name, for_good=False)
        told = fragments.note(f"Removed {removed}. It keeps its columns until it is removed for good.")
        return cards(), told, gr.Column(visible=False), gr.Button(f"Undo: bring {removed} back", visible=True)

    def restore(name: str) -> tuple[Any, ...]:
        concept = library.restore_concept(name)
        told = fragments.note(f"{concept.name} is back with all it had.", "good")
        return cards(), told, gr.Button(visible=False)

    group, problem = details["group"], details["problem"]
    listen(
        details["save"].click, save, [opened, details["name"], details["word"]],
        [*shown, opened, details["title"]], problem,
    )  # fmt: skip
    listen(details["remove"].click, remove, [opened], [*shown, group, undo], problem)
    listen(undo.click, restore, [opened], [*shown, undo], problem)
    listen(details["close"].click, lambda: gr.Column(visible=False), [], [group])


def _open_events(
    workflow: Workflow, cards: gr.HTML, message: gr.HTML, opened: gr.State, details: dict[str, Any], shown: Any
) -> None:
    library = workflow.library
    outputs = [
        cards,
        message,
        opened,
        *(details[key] for key in ("group", "title", "facts", "name", "word", "problem")),
    ]

    def open_one(event: gr.EventData) -> list[Any]:
        clicked = event._data or {}
        if sample := SAMPLES.get(str(clicked.get("sample", ""))):
            library.add_concept(sample.name, sample.class_word, sample.pictures)
            told = fragments.note(f"Added {sample.name}. Train it next, in the tab Train.", "good")
            return [shown(), told, *[gr.skip()] * 7]
        concept = library.concept(str(clicked.get("name", "")))
        facts = fragments.concept_facts(concept)
        return [gr.skip(), "", concept.name, gr.Column(visible=True), f"### {concept.name}", facts, concept.name,
                concept.class_word, ""]  # fmt: skip

    listen(cards.click, open_one, [], outputs)
