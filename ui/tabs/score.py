"""The Score tab: how near pictures are to words and to reference pictures."""

from pathlib import Path
from typing import Any

import gradio as gr

from concepts import read_picture
from ui import fragments
from ui.tabs.benchmark import benchmark_panel
from ui.tabs.events import FieldError, about, listen, problem_spot, result_spot
from ui.workflow import Workflow, summary

_MOST = 64
_EMPTY = (
    "Drop pictures and write what they should show. Scores are cosines in the embedding of one CLIP model, whose name "
    "stands beside them."
)


def score_tab(workflow: Workflow, tab: gr.Tab, page: gr.Blocks) -> None:
    """Fills the tab."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            pictures = gr.File(label="Pictures to score", file_count="multiple", height=140, elem_id="score-pictures")
            prompt = gr.Textbox(
                label="Prompt", info="What they should show; <rex> is read as its class word.", lines=2,
                placeholder="a photo of <rex> in the snow", elem_id="score-prompt",
            )  # fmt: skip
            concept = gr.Dropdown(
                choices=[("none", "")], value="", label="References: the pictures of a concept",
                info="Image alignment is the mean cosine with all reference pictures.",
            )  # fmt: skip
            references = gr.File(label="Or reference pictures", file_count="multiple", height=140,
                                 elem_id="score-references")  # fmt: skip
            button = gr.Button("Score", variant="primary", elem_id="score")
            problem = problem_spot()
        with gr.Column(scale=3, min_width=320):
            table = result_spot(_EMPTY, "scores")

    def names() -> Any:
        return gr.Dropdown(choices=[("none", ""), *((c.name, c.name) for c in workflow.library.concepts())])

    def score(files: list[str] | None, words: str, name: str, others: list[str] | None) -> str:
        if not files:
            raise FieldError("score-pictures", "Drop at least one picture to score.")
        if len(files) > _MOST:
            raise FieldError("score-pictures", f"Drop at most {_MOST} pictures at a time.")
        if not words.strip():
            raise FieldError("score-prompt", "Write a prompt: what should the pictures show?")
        with about("score-pictures"):
            loaded = [read_picture(Path(file), Path(file).name) for file in files]
        compared = workflow.pictures(workflow.library.concept(name)) if name else []
        with about("score-references"):
            compared += [read_picture(Path(file), Path(file).name) for file in others or ()]
        with about("score-prompt"):
            plain = workflow.plain(words)
        scores = workflow.score(loaded, plain, compared)
        rows = [
            {"picture": picture, "name": Path(file).name, "image_alignment": image, "text_alignment": text}
            for file, picture, image, text in zip(
                files, loaded, scores.image or [None] * len(loaded), scores.text, strict=True
            )
        ]
        return fragments.score_table(summary(scores), rows)

    for trigger in (page.load, tab.select):
        listen(trigger, names, [], [concept])
    benchmark_panel(workflow, tab, page)
    listen(button.click, score, [pictures, prompt, concept, references], [table], problem, model=True)
