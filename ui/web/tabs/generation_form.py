"""The controls of the Generate tab, and the requests that they ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from random import randrange
from typing import Any

import gradio as gr

from studio.composition import MERGES
from studio.models.families import Family
from studio.models.generation_request import ControlInput, GenerationRequest
from studio.models.sampling_settings import SamplingSettings
from studio.models.scheduler_names import SCHEDULERS
from ui.services.control import KNOWN_MODELS, refuse_local_models
from ui.services.gallery import check_number
from ui.services.generation import UNMERGED
from ui.services.parsing import prompts_from, size_from, strengths_from
from ui.services.workflow import Workflow
from ui.web.form_fields import control, given_values
from ui.web.tabs.events import FieldError, about
from ui.web.tabs.regions_form import regions_given
from ui.web.tabs.start_image import START_SETTINGS, shown_start_settings, start_image_controls, start_settings

MAX_SLIDERS = 6
"""Concepts in one prompt that get a slider."""
MAX_CONTROL = 2
"""Control images of one request."""
SETTINGS = (
    "num_images", "seed", "method", "density", "ridge", "rank", "contrast", "average", "scheduler",
    "num_inference_steps",
    "guidance_scale", "guidance_rescale", "negative_prompt", "prompt_syntax", "batch_size", "concepts", "auto_regions",
    *START_SETTINGS,
)  # fmt: skip
"""The settings whose controls hold their values as they are."""
_PLAIN = 9
"""Fields of `Given` that one control holds each, which come first."""
_OPTIONAL = ("density", "ridge", "rank", "contrast", "method", "scheduler")
_METHODS = [("automatic", ""), *((name, name) for name in (*MERGES, UNMERGED))]
_SCHEDULERS = [("the base's own", ""), *((name, name) for name in SCHEDULERS)]
_KINDS = list(dict.fromkeys(kind for known in KNOWN_MODELS.values() for kind in known))


@dataclass(frozen=True)
class Given:
    """What the controls hold, in the order of `inputs`."""

    prompt: str
    prompts: str | None
    placed: dict[str, Any] | None
    region_masks: list[str] | None
    size: str
    part_strengths: str
    image: str | None
    mask: dict[str, Any] | None
    random_seed: bool
    settings: Mapping[str, Any]
    strengths: tuple[float, ...]
    control: tuple[tuple[str, str | None, str, float], ...]


def settings_controls(names: list[str], family: Family) -> dict[str, Any]:
    """The controls beside the prompt and the boxes, by name, with the values of the base's family; `names` are concepts
    that can be loaded as well.
    """
    form: dict[str, Any] = {}
    with gr.Row():
        form["num_images"] = control(GenerationRequest, "num_images", "generate", min_width=100)
        form["seed"] = control(GenerationRequest, "seed", "generate", min_width=100)
        form["random_seed"] = gr.Checkbox(
            True, label="Random seed", min_width=100, info="Another seed at every press; untick it to keep this one.",
            elem_id="generate-random_seed",
        )  # fmt: skip
    form |= start_image_controls()
    with gr.Accordion("More settings", open=False):
        form |= _sampling_controls(family)
        form |= _merge_controls(names)
    with gr.Accordion("Control images", open=False):
        form["control"] = [_control_slot(number) for number in range(MAX_CONTROL)]
    return form


def _sampling_controls(family: Family) -> dict[str, Any]:
    usual = SamplingSettings().with_defaults(family)
    form: dict[str, Any] = {
        "scheduler": control(GenerationRequest, "scheduler", "generate", choices=_SCHEDULERS, value="")
    }
    bounds = {
        "num_inference_steps": (1, 60, 1), "guidance_scale": (0, 15, 0.5), "guidance_rescale": (0, 1, 0.05),
    }  # fmt: skip
    for name, (least, most, step) in bounds.items():
        form[name] = control(GenerationRequest, name, "generate", minimum=least, maximum=most, step=step,
                             value=getattr(usual, name))  # fmt: skip
    form["negative_prompt"] = control(GenerationRequest, "negative_prompt", "generate")
    form["prompt_syntax"] = control(GenerationRequest, "prompt_syntax", "generate")
    with gr.Row():
        form["size"] = gr.Textbox(
            label="Size", placeholder="256x128", max_lines=1, min_width=100, elem_id="generate-size",
            info=GenerationRequest.model_fields["size"].description,
        )  # fmt: skip
        # One at a time, so that the first is seen soon
        form["batch_size"] = control(GenerationRequest, "batch_size", "generate", value=1, min_width=100)
    form["prompts"] = gr.File(
        label="A text file of prompts, one a line, in place of the prompt", file_types=[".txt"], height=100,
        elem_id="generate-prompts",
    )  # fmt: skip
    return form


def _merge_controls(names: list[str]) -> dict[str, Any]:
    form: dict[str, Any] = {
        "method": control(GenerationRequest, "method", "generate", choices=_METHODS, value="", label="Merge method")
    }
    with gr.Row():
        for name in ("density", "ridge", "rank", "contrast"):
            form[name] = control(GenerationRequest, name, "generate", value="", min_width=100)
    form["average"] = control(GenerationRequest, "average", "generate")
    form["part_strengths"] = gr.Textbox(
        label="Strengths by component or block", lines=2,
        placeholder="rex=unet:0.8,text_encoder:0.5,unet.up_blocks.1:0.2",
        info="One concept a line, components and blocks named as in diffusers.", elem_id="generate-strengths",
    )  # fmt: skip
    form["concepts"] = gr.Dropdown(
        names, value=[], multiselect=True, label="Other concepts", elem_id="generate-concepts",
        info=GenerationRequest.model_fields["concepts"].description,
    )  # fmt: skip
    return form


def _control_slot(number: int) -> list[Any]:
    info = {name: field.description for name, field in ControlInput.model_fields.items()}
    with gr.Row():
        kind = gr.Dropdown(_KINDS, value=_KINDS[0], allow_custom_value=True, label="Kind", info=info["kind"])
        image = gr.File(label="Image", height=100, elem_id=f"generate-control-{number}")
    with gr.Row():
        model = gr.Textbox(label="Model", max_lines=1, info="A Hugging Face Hub model ID; the default one if empty.")
        scale = gr.Slider(0, 2, 1, step=0.05, label="Conditioning scale", info=info["conditioning_scale"])
    return [kind, image, model, scale]


def inputs(form: Mapping[str, Any]) -> list[Any]:
    """The controls, in the order in which `given` reads their values."""
    slots = [part for slot in form["control"] for part in slot]
    plain = [form[each.name] if each.name != "placed" else form["boxes"] for each in fields(Given)[:_PLAIN]]
    return [*plain, *(form[name] for name in SETTINGS), *form["strengths"], *slots]


def given(values: tuple[Any, ...]) -> Given:
    """The values of the controls by their meaning; a random seed is drawn here."""
    plain, rest = values[:_PLAIN], values[_PLAIN:]
    settings: dict[str, Any] = dict(zip(SETTINGS, rest, strict=False))
    if plain[-1]:
        settings["seed"] = randrange(2**32)
    rest = rest[len(SETTINGS) :]
    slots = rest[MAX_SLIDERS:]
    control = tuple((*slots[start : start + 4],) for start in range(0, len(slots), 4))
    return Given(*plain, settings=settings, strengths=rest[:MAX_SLIDERS], control=control)


def requests_of(workflow: Workflow, values: Given, folder: Path) -> list[GenerationRequest]:
    """What the controls ask for: one request, or one for each line of a file of prompts. What was painted over a start
    image becomes a file of the folder.
    """
    if not values.prompt.strip() and not values.prompts:
        raise FieldError("prompt", "The prompt is empty. Write what is to be generated.")
    with about("generate-prompts"):
        prompts = prompts_from(Path(values.prompts)) if values.prompts else [values.prompt.strip()]
    with about("generate-num_images"):
        check_number((values.settings["num_images"] or 0) * len(prompts))
    with about("prompt"):
        names = workflow.named_in(values.prompt)
    start = start_settings(values.image, values.mask, values.settings, folder)
    settings = {**_settings(values, names), **start}
    return [GenerationRequest(**settings, prompt=prompt) for prompt in prompts]


def _settings(values: Given, names: list[str]) -> dict[str, Any]:
    with about("generate-region_masks"):
        regions = regions_given(values.placed, values.region_masks, names)
    sliders = dict(zip(names, values.strengths, strict=False))
    with about("generate-strengths"):
        lines = [line.strip() for line in (values.part_strengths or "").splitlines() if line.strip()]
        by_part = strengths_from(lines, "a strength")
    with about("generate-size"):
        size = size_from((values.size or "").strip() or None)
    with about("generate-control-0"):
        control = _control(values)
    optional = given_values(GenerationRequest, {name: values.settings[name] for name in _OPTIONAL})
    return {
        **{name: value for name, value in values.settings.items() if name not in (*_OPTIONAL, *START_SETTINGS)},
        **optional,
        "concepts": tuple(values.settings["concepts"] or ()),
        "strengths": {**{name: value for name, value in sliders.items() if value != 1}, **by_part},
        "regions": regions,
        "size": size,
        "control": control,
    }


def _control(values: Given) -> tuple[ControlInput, ...]:
    control = tuple(
        ControlInput(kind=kind or "", image=image, model=(model or "").strip() or None, conditioning_scale=scale)
        for kind, image, model, scale in values.control
        if image
    )
    refuse_local_models(control)
    return control


def shown(request: GenerationRequest, names: list[str]) -> list[Any]:
    """What `inputs` hold for a request of a prompt with these names. An image keeps no other images."""
    by_part = {name: value for name, value in request.strengths.items() if isinstance(value, dict)}
    lines = [
        f"{name}=" + ",".join(f"{key}:{value:g}" for key, value in parts.items()) for name, parts in by_part.items()
    ]
    numbers = [value if not isinstance(value := request.strengths.get(name, 1), dict) else 1 for name in names]
    settings = [getattr(request, name) for name in SETTINGS]
    settings = ["" if value is None else value for value in settings]
    settings[SETTINGS.index("concepts")] = list(request.concepts)
    settings[-len(START_SETTINGS) :] = shown_start_settings(request).values()
    boxes = {name: list(box) for name, box in request.regions.items() if not isinstance(box, str)}
    placed = {"names": names, "boxes": boxes}
    size = "x".join(map(str, request.size or ()))
    slots = [part for _ in range(MAX_CONTROL) for part in (_KINDS[0], None, "", 1)]
    padding = [1] * (MAX_SLIDERS - len(numbers))
    plain = [request.prompt, None, placed, None, size, "\n".join(lines), None, {}, False]
    return [*plain, *settings, *numbers, *padding, *slots]


def remembered(form: Mapping[str, Any]) -> list[Any]:
    """The controls whose values the browser keeps over a reload: all but files and what belongs to them."""
    files = [
        form["prompts"],
        form["region_masks"],
        form["image"],
        form["mask"],
        *(part for slot in form["control"] for part in slot),
    ]
    left_out = {id(each) for each in files}
    return [each for each in inputs(form) if id(each) not in left_out]
