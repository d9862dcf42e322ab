"""The Concepts tab: the library as cards, beside it what is opened, and adding with every picture judged."""

from pathlib import Path
from typing import Any

import gradio as gr

from concepts import LibraryError
from concepts.images.import_files import MAX_PICTURES
from concepts.images.near_duplicates import inspect_pictures
from concepts.names import check_class_word, check_name
from concepts.samples import SAMPLES
from training.config.family_presets import presets_of
from training.config.recipe import Recipe
from ui.services.uploads import Uploads
from ui.services.workflow import Workflow
from ui.web import html
from ui.web.tabs.details import detail_events, details_panel, open_events
from ui.web.tabs.events import listen, refusal
from ui.web.tabs.import_export import import_panel
from ui.web.worker_supervisor import WorkerSupervisor

_CLICKED = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-name], [data-sample]');
  if (target) trigger('click', { ...target.dataset });
});
"""


def concepts_tab(workflow: Workflow, hands: WorkerSupervisor, tabs: gr.Tabs, tab: gr.Tab, page: gr.Blocks) -> None:
    """Fills the tab."""
    library = workflow.library

    def shown(text: str | None = None) -> str:
        wanted, most = (text or "").strip(), html.MOST_CARDS + 1
        found = library.page(most, search=wanted, newest=True)
        if wanted and len(found) < most:  # names that begin with it come first
            known = {concept.name for concept in found}
            found += [concept for concept in library.page(most, part=wanted) if concept.name not in known]
        return html.concept_cards(found) if found or wanted else html.sample_cards("Train this")

    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            wanted = gr.Textbox(label="Find a concept", placeholder="a part of its name", elem_id="find", max_lines=1)
            message = gr.HTML(elem_classes="spot")
            cards = gr.HTML(js_on_load=_CLICKED, elem_id="cards")
            undo = gr.Button("Undo", visible=False, size="sm")
        with gr.Column(scale=2, min_width=320):
            details = details_panel(workflow)
            form = _add_form()
            import_panel(workflow, [cards, message], shown)

    for trigger in (page.load, tab.select):
        listen(trigger, shown, [wanted], [cards])
    listen(wanted.change, shown, [wanted], [cards], trigger_mode="always_last")
    _add_events(workflow, form, [cards, message], shown)
    detail_events(workflow, details, undo, [cards, message], shown)
    open_events(workflow, cards, message, details)
    _sample_events(workflow, hands, tabs, cards, message, shown)


def _add_form() -> dict[str, Any]:
    with gr.Column(elem_id="add-form"):
        gr.Markdown("### Add a concept\nThree to ten pictures of one thing, in varied places and poses.")
        files = gr.File(label="Pictures", file_count="multiple", elem_id="add-files", height=140)
        files_problem = gr.HTML(elem_classes="spot")
        report = gr.HTML(elem_classes="spot")
        name = gr.Textbox(label="Name", info="How you write it in prompts, <rex>.", placeholder="rex", max_lines=1)
        name_problem = gr.HTML(elem_classes="spot")
        word = gr.Textbox(label="Class word", info="What it is, in a word that the base knows.", placeholder="dog",
                          max_lines=1)  # fmt: skip
        word_problem = gr.HTML(elem_classes="spot")
        add = gr.Button("Add concept", variant="primary")
    return {
        "files": files, "report": report, "name": name, "word": word, "add": add,
        "problems": [name_problem, word_problem, files_problem],
    }  # fmt: skip


def _add_events(workflow: Workflow, form: dict[str, Any], shown: list[Any], cards: Any) -> None:
    uploads = Uploads()

    def inspected(files: list[str] | None) -> tuple[Any, Any, str]:
        paths = [Path(file) for file in files or ()]
        if len(paths) > MAX_PICTURES:
            return "", gr.Button(interactive=False), html.problem(f"Drop at most {MAX_PICTURES} pictures.")
        items = inspect_pictures(paths, decode=uploads.decode)
        good = sum(item.picture is not None for item in items)
        label = f"Add with {good} picture{'s' if good != 1 else ''}" if good else "Add concept"
        return html.inspection(items), gr.Button(label, interactive=True), ""

    def add(files: list[str] | None, name: str, word: str) -> list[Any]:
        name, word = name.strip(), word.strip()
        problems = [refusal(check_name, name), refusal(check_class_word, word), ""]
        paths = [Path(file) for file in files or ()]
        good = [item.imported for item in inspect_pictures(paths, decode=uploads.decode) if item.imported]
        if not good:
            problems[2] = html.problem("Drop at least one picture that can be read.")
        if any(problems):
            return [*[gr.skip()] * 6, *problems]
        try:
            concept = workflow.library.add_concept(name, word, good)
        except LibraryError as error:
            return [*[gr.skip()] * 6, html.problem(str(error)), "", ""]
        uploads.forget(paths)
        told = html.note(f"Added {concept.name}. Train it next, in the tab Train.", "good")
        return [cards(), told, None, "", "", "", "", "", ""]

    files, report, name, word, button = (form[key] for key in ("files", "report", "name", "word", "add"))
    problems = form["problems"]
    listen(files.change, inspected, [files], [report, button, problems[2]])
    listen(button.click, add, [files, name, word], [*shown, files, report, name, word, *problems])


def _sample_events(
    workflow: Workflow, hands: WorkerSupervisor, tabs: gr.Tabs, cards: gr.HTML, message: gr.HTML, shown: Any
) -> None:
    def train(event: gr.EventData) -> tuple[Any, ...]:
        sample = SAMPLES.get(str((event._data or {}).get("sample", "")))
        if sample is None:
            return (gr.skip(),) * 2
        workflow.library.add_concept(sample.name, sample.class_word, sample.pictures)
        workflow.queue([sample.name], Recipe(**presets_of(workflow.family)["quick"]))
        hands.ensure_running()
        return shown(), gr.Tabs(selected="train")

    listen(cards.click, train, [], [cards, tabs], message)
