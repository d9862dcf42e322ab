"""The Generate tab: a prompt with concepts, their strengths and places; pictures come one after the other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from concepts import LibraryError
from studio.composition import MERGES
from studio.models.generation_request import GenerationRequest
from ui.services.gallery import check_number, keep, latest, settings_of
from ui.services.generation import UNMERGED, names_written
from ui.services.studio import Workflow
from ui.web import html
from ui.web.assets import asset
from ui.web.controls import control
from ui.web.tabs.events import MOST_LISTED, FieldError, about, listen, problem_spot

_PROGRESS = gr.Progress()  # Gradio finds it among the defaults, and gives each event one of its own
MOST_NAMED = 6
"""Concepts in one prompt that get a slider."""
_EMPTY = (
    "Write a prompt and press Generate: pictures come here one after the other, and stay. Names of trained concepts "
    "stand below the prompt; the tab Train teaches more."
)
_METHODS = [("what suits the concepts", ""), *((name, name) for name in (*MERGES, UNMERGED))]


def generate_tab(workflow: Workflow, tab: gr.Tab, page: gr.Blocks) -> None:
    """Fills the tab. Where it is narrow, page.css puts the pictures between the prompt and the settings."""
    with gr.Row(elem_id="generation"):
        with gr.Column(elem_id="generation-prompt", min_width=0):
            form = _prompt()
        with gr.Column(elem_id="generation-settings", min_width=0):
            form |= _settings()
        with gr.Column(elem_id="generation-pictures", min_width=0):
            shown = _pictures()
    _prompt_events(workflow, tab, page, form)
    _generate_events(workflow, page, form, shown)
    _settings_events(form, shown)


def _prompt() -> dict[str, Any]:
    form: dict[str, Any] = {
        "prompt": gr.Textbox(
            label="Prompt", lines=2, elem_id="prompt", placeholder="a photo of <rex> on the beach",
            info="Write a concept as <name>; Tab completes it.", autofocus=True,
        ),
        "names": gr.HTML(html_template='<div class="chips"></div>', js_on_load=asset("names.js"), value=[]),
        "highlighted": gr.HTML(elem_classes="spot"),
        "problem": problem_spot(),
    }  # fmt: skip
    with gr.Row():
        form["generate"] = gr.Button("Generate", variant="primary", min_width=120, scale=3)
        form["stop"] = gr.Button("Stop", min_width=80, scale=1)
    return form


def _settings() -> dict[str, Any]:
    form: dict[str, Any] = {
        "strengths": [
            gr.Slider(0, 2, 1, step=0.05, label="Strength", visible=False, elem_classes="strength")
            for _ in range(MOST_NAMED)
        ]
    }
    with gr.Accordion("Places", open=False, elem_id="places"):
        form["layout"] = gr.Radio(["free", "side by side", "one above the other"], value="free", label="Layout",
                                  info="Or draw: choose a name, then click two corners.")  # fmt: skip
        form["boxes"] = gr.HTML(
            html_template='<div class="boxes"></div>', js_on_load=asset("boxes.js"), value={"names": [], "boxes": {}},
            elem_id="boxes",
        )  # fmt: skip
    with gr.Row():
        form["num_images"] = control(GenerationRequest, "num_images", "generate", min_width=100)
        form["seed"] = control(GenerationRequest, "seed", "generate", min_width=100)
    with gr.Accordion("More settings", open=False):
        form["method"] = control(
            GenerationRequest, "method", "generate", choices=_METHODS, value="", label="Merge method"
        )
        form["average"] = control(GenerationRequest, "average", "generate")
        form["num_inference_steps"] = control(
            GenerationRequest, "num_inference_steps", "generate", minimum=1, maximum=60
        )
        form["guidance_scale"] = control(
            GenerationRequest, "guidance_scale", "generate", minimum=0, maximum=15, step=0.5
        )
        form["negative_prompt"] = control(GenerationRequest, "negative_prompt", "generate")
    return form


def _pictures() -> dict[str, Any]:
    shown: dict[str, Any] = {
        "message": gr.HTML(elem_classes="spot"),
        "gallery": gr.Gallery(
            label="Generated pictures", show_label=False, height=460, object_fit="contain", interactive=False,
            elem_id="generated", columns=4, buttons=["download", "fullscreen"],
        ),
        "files": gr.State([]),
        "chosen": gr.State(""),
        "facts": gr.HTML(elem_classes="spot"),
        "use": gr.Button("Use these settings", visible=False, size="sm"),
    }  # fmt: skip
    with gr.Accordion("Settings of a picture generated earlier", open=False):
        shown["earlier"] = gr.File(label="A PNG file that was generated here", height=140)
        shown["problem"] = problem_spot()
    return shown


def _prompt_events(workflow: Workflow, tab: gr.Tab, page: gr.Blocks, form: dict[str, Any]) -> None:
    def trained() -> list[str]:
        return [concept.name for concept in workflow.library.page(MOST_LISTED, newest=True, trained=True)]

    def read(prompt: str, placed: dict[str, Any] | None) -> list[Any]:
        parts = workflow.read_prompt(prompt)
        names = list(dict.fromkeys(text[1:-1] for text, kind in parts if kind == "known"))[:MOST_NAMED]
        boxes = {name: box for name, box in ((placed or {}).get("boxes") or {}).items() if name in names}
        sliders = [gr.Slider(visible=True, label=f"Strength of {name}") for name in names]
        sliders += [gr.Slider(visible=False, label="Strength")] * (MOST_NAMED - len(names))
        return [html.highlighted(parts), {"names": names, "boxes": boxes}, *sliders]

    def laid_out(layout: str, placed: dict[str, Any] | None) -> dict[str, Any]:
        names = (placed or {}).get("names") or []
        return {"names": names, "boxes": _places(layout, names)}

    for trigger in (page.load, tab.select):
        listen(trigger, trained, [], [form["names"]])
    outputs = [form["highlighted"], form["boxes"], *form["strengths"]]
    listen(form["prompt"].change, read, [form["prompt"], form["boxes"]], outputs, trigger_mode="always_last")
    listen(form["layout"].input, laid_out, [form["layout"], form["boxes"]], [form["boxes"]])


def _places(layout: str, names: list[str]) -> dict[str, list[float]]:
    """Boxes of one size next to each other."""
    edges = [index / max(1, len(names)) for index in range(len(names) + 1)]
    pairs = list(zip(names, edges, edges[1:], strict=False))
    if layout == "side by side":
        return {name: [0, start, 1, stop] for name, start, stop in pairs}
    if layout == "one above the other":
        return {name: [start, 0, stop, 1] for name, start, stop in pairs}
    return {}


_SETTINGS = ("num_images", "seed", "method", "average", "num_inference_steps", "guidance_scale", "negative_prompt")


def _generate_events(workflow: Workflow, page: gr.Blocks, form: dict[str, Any], shown: dict[str, Any]) -> None:
    folder = workflow.library.local

    def generate(prompt: str, placed: Any, progress: Any = _PROGRESS, *given: Any) -> Iterator[tuple[Any, ...]]:
        request = _request(workflow, prompt, placed, given)
        total, notes, generated = request.num_images * request.num_inference_steps, [], []
        steps = iter(range(1, total + 1))
        progress((0, total), desc="getting ready", unit="steps")

        def step() -> None:
            progress((next(steps), total), desc="generating", unit="steps")

        with about("prompt", (LibraryError,)):
            for seed, picture in workflow.generate_each(request, step, notes.append):
                generated.append(str(keep(folder, picture, request.text(seed))))
                yield [*generated], [*generated], html.note(" ".join(notes))

    def generated_before() -> tuple[list[str], list[str], str]:
        found = [str(path) for path in latest(folder)]
        return found, found, "" if found else html.note(_EMPTY, "empty")

    outputs = [shown["gallery"], shown["files"], shown["message"]]
    inputs = [form["prompt"], form["boxes"], *(form[name] for name in _SETTINGS), *form["strengths"]]
    event = listen(form["generate"].click, generate, inputs, outputs, form["problem"], model=True, form="generate",
                   show_progress_on=[shown["gallery"]])  # fmt: skip
    form["stop"].click(None, cancels=[event])
    listen(page.load, generated_before, [], outputs)


def _request(
    workflow: Workflow, prompt: str, placed: dict[str, Any] | None, given: tuple[Any, ...]
) -> GenerationRequest:
    """What the controls ask for."""
    if not prompt.strip():
        raise FieldError("prompt", "Write a prompt first: what is to be generated?")
    settings = dict(zip(_SETTINGS, given, strict=False))
    with about("generate-number"):
        check_number(settings["num_images"])
    with about("prompt"):
        names = workflow.named_in(prompt)
    strengths = dict(zip(names, given[len(_SETTINGS) :], strict=False))
    boxes = (placed or {}).get("boxes") or {}
    return GenerationRequest(**{
        **settings,
        "prompt": prompt.strip(),
        "method": settings["method"] or None,
        "strengths": {name: value for name, value in strengths.items() if value != 1},
        "regions": {name: tuple(box) for name, box in boxes.items() if name in names},
    })  # fmt: skip


def _settings_events(form: dict[str, Any], shown: dict[str, Any]) -> None:
    def select(generated: list[str], event: gr.SelectData) -> tuple[str, str, Any]:
        path = generated[int(event.index)]
        request = settings_of(Path(path))
        words = (
            f"Seed {request.seed}, {request.num_inference_steps} steps, guidance scale {request.guidance_scale:g}: "
            f"{request.prompt}"
        )
        return path, html.note(words), gr.Button(visible=True)

    def back(path: str) -> list[Any]:
        request = settings_of(Path(path))
        names = names_written(request.prompt)[:MOST_NAMED]
        placed = {"names": names, "boxes": {name: list(box) for name, box in request.regions.items()}}
        values = [getattr(request, name) for name in _SETTINGS]
        values[_SETTINGS.index("method")] = request.method or ""
        sliders = [request.strengths.get(name, 1) for name in names] + [1] * (MOST_NAMED - len(names))
        return [placed, request.prompt, *values, *sliders]

    outputs = [form["boxes"], form["prompt"], *(form[name] for name in _SETTINGS), *form["strengths"]]
    chosen, problem = shown["chosen"], shown["problem"]
    listen(shown["gallery"].select, select, [shown["files"]], [chosen, shown["facts"], shown["use"]], problem)
    listen(shown["use"].click, back, [chosen], outputs, problem)
    listen(shown["earlier"].upload, back, [shown["earlier"]], outputs, problem)
