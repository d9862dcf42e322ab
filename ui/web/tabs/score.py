"""The Score tab: how near pictures are to words and to reference pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ui.services.uploads import Uploads
from ui.services.workflow import Workflow, summary
from ui.web import html
from ui.web.tabs.benchmark import benchmark_panel
from ui.web.tabs.events import MOST_LISTED, FieldError, about, listen, problem_spot, result_spot

_MOST = 64
_EMPTY = (
    "Drop pictures and write what they should show. Scores are cosine similarities of the embeddings of one CLIP "
    "model, which the table names."
)


def score_tab(workflow: Workflow, tab: gr.Tab, page: gr.Blocks) -> None:
    """Fills the tab."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            fields = _fields()
            button = gr.Button("Score", variant="primary", elem_id="score")
            problem = problem_spot()
        with gr.Column(scale=3, min_width=320):
            table = result_spot(_EMPTY, "scores")

    def names() -> Any:
        return gr.Dropdown(
            choices=[("none", ""), *((c.name, c.name) for c in workflow.library.page(MOST_LISTED, newest=True))]
        )

    uploads = Uploads()

    def score(*given: Any) -> str:
        return _scored(workflow, uploads, *given)

    for trigger in (page.load, tab.select):
        listen(trigger, names, [], [fields[2]])
    listen(button.click, score, fields, [table], problem, model=True)
    benchmark_panel(workflow, tab, page)


def _fields() -> list[Any]:
    """Pictures, prompt, concept and reference pictures."""
    return [
        gr.File(label="Pictures to score", file_count="multiple", height=140, elem_id="score-pictures"),
        gr.Textbox(
            label="Prompt", info="What they should show; <rex> is read as its class word.", lines=2,
            placeholder="a photo of <rex> in the snow", elem_id="score-prompt",
        ),
        gr.Dropdown(
            choices=[("none", "")], value="", allow_custom_value=True, label="References: the pictures of a concept",
            elem_id="score-concept",
            info="Image alignment is the mean cosine with all reference pictures.",
        ),
        gr.File(label="Or reference pictures", file_count="multiple", height=140, elem_id="score-references"),
    ]  # fmt: skip


def _scored(
    workflow: Workflow, uploads: Uploads, files: list[str] | None, words: str, name: str, others: list[str] | None
) -> str:
    """The table of scores."""
    if not files:
        raise FieldError("score-pictures", "There is no image to score. Upload at least one.")
    if len(files) > _MOST:
        raise FieldError("score-pictures", f"There are too many images. Upload at most {_MOST} at a time.")
    if not words.strip():
        raise FieldError("score-prompt", "The prompt is empty. Write what the images should show.")
    with about("score-prompt"):
        plain = workflow.plain(words)
    loaded = _read(uploads, "score-pictures", files)
    with about("score-concept"):
        compared = workflow.pictures(workflow.library.concept(name)) if name else []
    scores = workflow.score(loaded, plain, [*compared, *_read(uploads, "score-references", others or ())])
    images = scores.image or [None] * len(loaded)
    rows = [
        {"picture": picture, "name": Path(file).name, "image_alignment": image, "text_alignment": text}
        for file, picture, image, text in zip(files, loaded, images, scores.text, strict=True)
    ]
    return html.score_table(summary(scores), rows)


def _read(uploads: Uploads, field: str, files: Sequence[str]) -> list[Image.Image]:
    with about(field):
        return [uploads.decode(Path(file), Path(file).name).image for file in files]
