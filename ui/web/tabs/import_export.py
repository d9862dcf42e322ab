"""Concepts to and from other tools' files, in the Concepts tab."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from concepts.errors import StudioError
from concepts.names import check_class_word, check_name
from ui.services.import_export import DEFAULT_CLASS, export_for_download, import_file
from ui.services.workflow import Workflow
from ui.web import html
from ui.web.tabs.events import listen, problem_spot, refusal

_LAYOUTS = [
    ("kohya: ComfyUI, A1111, Forge", "kohya"),
    ("diffusers", "diffusers"),
    ("PEFT", "peft"),
    ("LyCORIS: exact", "lycoris"),
]


def export_panel(workflow: Workflow, opened: gr.State) -> None:
    """Fills the panel, which follows the opened concept."""
    with gr.Accordion("Export", open=False, elem_id="export"):
        layout = gr.Radio(_LAYOUTS, value="kohya", label="Format", info="What should read the file?")
        button = gr.Button("Make the files", size="sm")
        problem = problem_spot()
        message = gr.HTML(elem_classes="spot")
        files = gr.File(label="Files", file_count="multiple", interactive=False, visible=False, elem_id="exported")

    def export(name: str, chosen: str) -> tuple[str, Any]:
        made, notes = export_for_download(workflow, name, chosen)
        told = " ".join(["Click a size to download. The token is the file that ends in .tokens.safetensors.", *notes])
        return html.note(told, "good"), gr.File(value=[str(file) for file in made], visible=True)

    listen(button.click, export, [opened, layout], [message, files], problem, model=True)
    listen(opened.change, lambda: ("", gr.File(value=None, visible=False), ""), [], [message, files, problem])


def import_panel(workflow: Workflow, shown: list[Any], cards: Callable[[], str]) -> None:
    """Fills the panel; what comes in goes onto the cards, `shown`, with a sentence beside them."""
    with gr.Accordion("Import a file of another tool", open=False, elem_id="import"):
        fields, problems, button = _import_form()

    def bring(source: str | None, beside: str | None, called: str, kind: str, words: str) -> list[Any]:
        called, kind = called.strip(), kind.strip() or DEFAULT_CLASS
        problems = [refusal(check_name, called), refusal(check_class_word, kind), ""]
        if source is None:
            problems[2] = html.problem("Drop the .safetensors file first.")
        if source is None or any(problems):
            return [*[gr.skip()] * 7, *problems]
        try:
            concept, notes = import_file(
                workflow, Path(source), called, kind, Path(beside) if beside else None, words.strip() or None
            )
        except StudioError as error:
            return [*[gr.skip()] * 7, "", "", html.problem(str(error))]
        told = " ".join([f"Imported {concept.name}. Write <{concept.name}> in a prompt, in the tab Generate.", *notes])
        return [cards(), html.note(told, "good"), None, None, "", "", "", "", "", ""]

    listen(button.click, bring, fields, [*shown, *fields, *problems], model=True)


def _import_form() -> tuple[list[Any], list[Any], gr.Button]:
    """File, textual inversion, name, class word and trigger words; where their problems are shown; the button."""
    file = gr.File(label="A LoRA, LoCon, LoHa, LoKr or OFT", file_types=[".safetensors"], height=140)
    file_problem = gr.HTML(elem_classes="spot")
    tokens = gr.File(label="Its textual inversion, if it has one", file_types=[".safetensors"], height=140)
    name = gr.Textbox("", label="Name", placeholder="dragon", max_lines=1)
    name_problem = gr.HTML(elem_classes="spot")
    word = gr.Textbox("", label="Class word", placeholder=DEFAULT_CLASS, max_lines=1)
    word_problem = gr.HTML(elem_classes="spot")
    trigger = gr.Textbox(
        "", label="Trigger words", placeholder="drgn dragon", max_lines=1,
        info="What <name> stands for without a textual inversion; the trigger words in the file if unset.",
    )  # fmt: skip
    button = gr.Button("Import", size="sm")
    return [file, tokens, name, word, trigger], [name_problem, word_problem, file_problem], button
