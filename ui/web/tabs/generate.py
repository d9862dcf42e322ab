"""The Generate tab: a prompt with concepts, their strengths and places; pictures come one after the other."""

from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import gradio as gr
from PIL import Image

from concepts import LibraryError
from studio.models.generation_request import GenerationRequest
from ui.services.gallery import keep, latest, masks_of, save_masks, settings_of, with_settings
from ui.services.named_concepts import names_written
from ui.services.workflow import Workflow
from ui.web import html
from ui.web.assets import asset
from ui.web.tabs.events import MOST_LISTED, about, listen, problem_spot
from ui.web.tabs.generation_form import MAX_SLIDERS, given, inputs, remembered, requests_of, settings_controls, shown
from ui.web.tabs.regions_form import overlaid, region_controls
from ui.web.tabs.start_image import start_image_events

_PROGRESS_SECONDS = 0.2
_PROGRESS = gr.Progress()  # Gradio finds it among the defaults, and gives each event one of its own
_EMPTY = (
    "Write a prompt and press Generate: images appear here one after the other, and are kept. Names of trained "
    "concepts are shown below the prompt; train more in the tab Train."
)

_LARGE = '<button type="button" class="small-button" data-gallery="generated">View at full size</button>'


def generate_tab(workflow: Workflow, tab: gr.Tab, page: gr.Blocks) -> list[Any]:
    """Fills the tab, and returns the controls whose values a reload keeps.

    Where it is narrow, page.css puts the pictures between the prompt and the settings.
    """
    with gr.Row(elem_id="generation"):
        with gr.Column(elem_id="generation-prompt", min_width=0):
            form = _prompt()
        with gr.Column(elem_id="generation-settings", min_width=0):
            form |= _strengths_and_regions()
            form |= settings_controls(_trained(workflow), workflow.family)
        with gr.Column(elem_id="generation-pictures", min_width=0):
            results = _pictures()
    _prompt_events(workflow, tab, page, form)
    start_image_events(form)
    _generate_events(workflow, page, form, results)
    _settings_events(form, results)
    return remembered(form)


def _prompt() -> dict[str, Any]:
    form: dict[str, Any] = {
        "prompt": gr.Textbox(
            label="Prompt", lines=2, elem_id="prompt", placeholder="a photo of <rex> on the beach",
            info="Write a concept as <name>; Tab completes it, Ctrl+Enter generates.", autofocus=True,
        ),
        "names": gr.HTML(html_template='<div class="chips"></div>', js_on_load=asset("names.js"), value=[]),
        "highlighted": gr.HTML(elem_classes="spot"),
        "problem": problem_spot(),
    }  # fmt: skip
    with gr.Row():
        form["generate"] = gr.Button("Generate", variant="primary", min_width=120, scale=3, elem_id="generate-button")
        form["stop"] = gr.Button("Stop", min_width=80, scale=1)
    return form


def _strengths_and_regions() -> dict[str, Any]:
    strengths = [
        gr.Slider(0, 2, 1, step=0.05, label="Strength", visible=False, elem_classes="strength")
        for _ in range(MAX_SLIDERS)
    ]
    return {"strengths": strengths, **region_controls()}


def _trained(workflow: Workflow) -> list[str]:
    return [concept.name for concept in workflow.library.page(MOST_LISTED, newest=True, trained=True)]


def _pictures() -> dict[str, Any]:
    results: dict[str, Any] = {
        "message": gr.HTML(elem_classes="spot"),
        "gallery": gr.Gallery(
            label="Generated pictures", show_label=False, height=460, object_fit="contain", interactive=False,
            elem_id="generated", columns=4, buttons=["download"],
        ),
        "large": gr.HTML(_LARGE),
        "files": gr.State([]),
        "chosen": gr.State(""),
        "facts": gr.HTML(elem_classes="spot"),
        "regions": gr.Image(
            label="Regions", visible=False, interactive=False, height=300, elem_id="regions", buttons=["fullscreen"]
        ),
        "use": gr.Button("Use these settings", visible=False, size="sm"),
    }  # fmt: skip
    with gr.Accordion("Settings of a picture generated earlier", open=False):
        results["earlier"] = gr.File(label="A PNG file that was generated here", height=140)
        results["problem"] = problem_spot()
    return results


def _prompt_events(workflow: Workflow, tab: gr.Tab, page: gr.Blocks, form: dict[str, Any]) -> None:
    def trained() -> tuple[list[str], Any]:
        names = _trained(workflow)
        return names, gr.Dropdown(names)

    def read(prompt: str, placed: dict[str, Any] | None) -> list[Any]:
        parts = workflow.read_prompt(prompt)
        names = list(dict.fromkeys(text[1:-1] for text, kind in parts if kind == "known"))[:MAX_SLIDERS]
        boxes = {name: box for name, box in ((placed or {}).get("boxes") or {}).items() if name in names}
        sliders = [gr.Slider(visible=True, label=f"Strength of {name}") for name in names]
        sliders += [gr.Slider(visible=False, label="Strength")] * (MAX_SLIDERS - len(names))
        return [html.highlighted(parts), {"names": names, "boxes": boxes}, *sliders]

    def laid_out(layout: str, placed: dict[str, Any] | None) -> dict[str, Any]:
        names = (placed or {}).get("names") or []
        return {"names": names, "boxes": _places(layout, names)}

    outputs = [form["highlighted"], form["boxes"], *form["strengths"]]
    for trigger in (page.load, tab.select):
        listen(trigger, trained, [], [form["names"], form["concepts"]])
    listen(tab.select, read, [form["prompt"], form["boxes"]], outputs)  # a name may have been trained meanwhile
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


def _generate_events(workflow: Workflow, page: gr.Blocks, form: dict[str, Any], results: dict[str, Any]) -> None:
    folder = workflow.library.local

    def kept() -> tuple[list[str], list[str]]:
        found = [str(path) for path in latest(folder)]
        return found, found

    def generate(first: Any, progress: Any = _PROGRESS, *rest: Any) -> Iterator[tuple[Any, ...]]:
        values = given((first, *rest))
        notes: list[str] = []
        with TemporaryDirectory() as painted, about("prompt", (LibraryError,)):
            requests = requests_of(workflow, values, Path(painted))
            step = _told(progress, sum(request.total_steps for request in requests))
            for request in requests:
                masks: dict[int, Any] = {}
                for seed, picture in workflow.generate_each(request, step, notes.append, masks.__setitem__):
                    save_masks(keep(folder, with_settings(picture, request, seed)), masks.pop(seed, {}))
                    yield *kept(), html.note(" ".join(dict.fromkeys(notes))), values.settings["seed"]

    def kept_in_the_end() -> tuple[list[str], list[str]]:
        workflow.wait()  # a picture that is under way is kept, although its event is cancelled
        return kept()

    def generated_before() -> tuple[Any, ...]:
        found, files = kept()
        return found, files, "" if found else html.note(_EMPTY, "empty"), gr.skip()

    outputs = [results["gallery"], results["files"], results["message"], form["seed"]]
    event = listen(form["generate"].click, generate, inputs(form), outputs, form["problem"], model=True,
                   form="generate", show_progress_on=[results["gallery"]])  # fmt: skip
    stopped = form["stop"].click(None, cancels=[event])
    listen(stopped.then, kept_in_the_end, [], outputs[:2])
    listen(page.load, generated_before, [], outputs)


def _told(progress: Any, total: int) -> Callable[[], None]:
    """What tells the browser of each step, but not more often than it can show it."""
    steps, last = iter(range(1, total + 1)), monotonic()
    progress((0, total), desc="getting ready", unit="steps")

    def step() -> None:
        nonlocal last
        done = next(steps)
        if monotonic() - last > _PROGRESS_SECONDS or done == total:
            last = monotonic()
            progress((done, total), desc="generating", unit="steps")

    return step


def _settings_events(form: dict[str, Any], results: dict[str, Any]) -> None:
    def select(generated: list[str], event: gr.SelectData) -> tuple[str, str, Any, Any]:
        path = Path(generated[int(event.index)])
        masks, (request, _) = masks_of(path), settings_of(path)
        shown = overlaid(Image.open(path), masks, names_written(request.prompt)) if masks else None
        return str(path), html.note(_summary(request)), gr.Button(visible=True), gr.Image(shown, visible=bool(masks))

    def back(path: str) -> list[Any]:
        request, ignored = settings_of(Path(path))
        if ignored:
            gr.Info(f"Not taken from the image: {', '.join(ignored)}.")
        if request.image is not None:
            gr.Info(
                f"The image was generated from {escape(request.image)}. Choose that picture again to start from it."
            )
        return shown(request, names_written(request.prompt)[:MAX_SLIDERS])

    chosen, problem = results["chosen"], results["problem"]
    selected = [chosen, results["facts"], results["use"], results["regions"]]
    listen(results["gallery"].select, select, [results["files"]], selected, problem)
    listen(results["use"].click, back, [chosen], inputs(form), problem)
    listen(results["earlier"].upload, back, [results["earlier"]], inputs(form), problem)


def _summary(request: GenerationRequest) -> str:
    return (
        f"Seed {request.seed}, {request.num_inference_steps} steps, guidance scale {request.guidance_scale:g}: "
        f"{request.prompt}"
    )
