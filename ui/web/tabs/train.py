"""The Train tab: a method, its size, every option of the recipe; and the queue beside it."""

import inspect
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import gradio as gr
from pydantic import BaseModel

from concepts import LibraryError
from concepts.errors import StudioError
from studio.adapters import ADAPTERS
from studio.adapters.method_summaries import GOOD_FOR
from studio.models.families import Family
from training.config.family_presets import presets_of, unset_values, with_family_defaults
from training.config.option_group import Group
from training.config.presets import PRESETS
from training.config.recipe import Recipe
from training.jobs.variants import trainings_of
from ui.services.error_messages import USER_ERRORS
from ui.services.parsing import number_from, pairs, parsed
from ui.services.workflow import Workflow
from ui.web import html
from ui.web.form_fields import control, given_values
from ui.web.tabs.events import MOST_LISTED, FieldError, about, listen, problem_spot
from ui.web.tabs.jobs import jobs_panel
from ui.web.worker_supervisor import WorkerSupervisor

_OWN = ("adapter", "rank", "max_parameters", "options")
"""Options of the recipe that have controls of their own; all others stand under "Every option"."""
OTHERS = [name for name in Recipe.model_fields if name not in _OWN]
_PARTS = [part for part in reversed(Recipe.__mro__) if issubclass(part, Group) and part not in (Group, Recipe)]
_ADAPTER = Recipe.model_fields["adapter"].default
_SEVERAL = "One or several: they are trained one after another."
_VARIANTS = (
    "Trains the same pictures with other adapters and ranks as well. Each becomes a concept of its own, named as "
    "rex-lora or rex-r4; the axes adapter and rank of the tab Compare put them side by side."
)
_PRESET = "standard"
_PRESET_OPTIONS = tuple(dict.fromkeys(option for preset in PRESETS.values() for option in preset))
_RATES = ("unet_lr", "text_encoder_lr", "token_lr")
_HIDDEN_OPTIONS = ("rank", "first_column")


def train_tab(workflow: Workflow, hands: WorkerSupervisor, tab: gr.Tab, page: gr.Blocks) -> list[Any]:
    """Fills the tab, and returns the controls whose values a reload keeps."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            form = _form(workflow.family)
        with gr.Column(scale=3, min_width=320):
            jobs_panel(workflow, hands, page)
    _size_events(workflow, tab, form)
    _queue_events(workflow, hands, tab, page, form)
    kept = [form[name] for name in ("names", "adapter", "preset", "by", "size", "options", "adapters", "ranks")]
    return [*kept, *form["others"]]


def _form(family: Family) -> dict[str, Any]:
    presets = presets_of(family)
    steps = ", ".join(f"{name} {preset['steps']}" for name, preset in presets.items())
    form: dict[str, Any] = {
        "names": gr.Dropdown(
            choices=[], multiselect=True, allow_custom_value=True, label="Concepts", elem_id="train-names",
            info=_SEVERAL,
        ),
        "adapter": gr.Dropdown(list(ADAPTERS), value=_ADAPTER, label="Adapter",
                               elem_id="train-method"),
        "purpose": gr.HTML(html.note(GOOD_FOR[_ADAPTER]), elem_classes="spot", elem_id="train-purpose"),
        "preset": gr.Radio(list(presets), value=_PRESET, label="Preset", info=f"Training steps: {steps}."),
    }  # fmt: skip
    with gr.Row():
        form["by"] = gr.Radio([("rank", "rank"), ("parameter budget", "max_parameters")], value="rank", label="Size by")
        form["size"] = gr.Textbox(label="Rank or budget", value="8", max_lines=1, min_width=100, elem_id="train-rank",
                                  info="As in 8, or 20k for a budget.")  # fmt: skip
    form["cost"] = gr.HTML(elem_classes="spot", elem_id="cost")
    form |= _several()
    with gr.Accordion("Every option", open=False):
        form["options"] = gr.Textbox(label="Options of the adapter", placeholder="alpha=4", lines=2,
                                     elem_id="train-options", info="NAME=VALUE, one a line.")  # fmt: skip
        form["others"] = [option for part in _PARTS for option in _options(part, family)]
    form["train"] = gr.Button("Train", variant="primary", elem_id="train")
    form["problem"] = problem_spot()
    form["message"] = gr.HTML(elem_classes="spot", elem_id="train-message")
    return form


def _several() -> dict[str, Any]:
    """Further methods and ranks for the same pictures."""
    with gr.Accordion("Several trainings, to compare", open=False):
        gr.HTML(html.note(_VARIANTS))
        adapters = gr.Dropdown(
            list(ADAPTERS), multiselect=True, label="Other adapters", elem_id="train-adapters",
            info="Each at its own size, or at the ranks below.",
        )  # fmt: skip
        ranks = gr.Textbox(
            label="Other ranks", placeholder="4, 16", max_lines=1, elem_id="train-ranks", info="Separated by commas."
        )
    return {"adapters": adapters, "ranks": ranks}


def _options(part: type[BaseModel], family: Family) -> list[Any]:
    """The controls of a part of the recipe, under its name."""
    gr.Markdown(f"**{inspect.cleandoc(part.__doc__ or '').rstrip('.')}**")
    with gr.Row():
        return [_option(name, family) for name in part.__annotations__ if name in OTHERS]


def _option(name: str, family: Family) -> Any:
    """The control of an option, as the preset of the base's family has it with which the page begins."""
    value = preset_values(family, _PRESET)[name]
    start = {"placeholder": _rate_hint(family, _ADAPTER, name)} if name in _RATES else {"value": _shown(name, value)}
    return control(Recipe, name, "train", min_width=190, **start)


def preset_values(family: Family, preset: str) -> dict[str, Any]:
    """The value of each option in a preset of a family."""
    recipe = with_family_defaults(Recipe(**presets_of(family)[preset]), family)
    return {name: getattr(recipe, name) for name in OTHERS}


def _rate_hint(family: Family, adapter: str, name: str) -> str:
    """The learning rate that an adapter has on a family where none is given."""
    rate = unset_values(family, Recipe(adapter=adapter))[name]
    return "unset" if rate is None else f"{rate:g}"


def _shown(name: str, value: Any) -> Any:
    """A value as its control takes it: one that may be unset is written."""
    return "" if value is None else str(value) if Recipe.model_fields[name].default is None else value


def recipe_of(adapter: str, by: str, size: str, options: str, others: tuple[Any, ...]) -> Recipe:
    """What the controls ask for. Raises StudioError, or pydantic's ValidationError, for what cannot be."""
    chosen: dict[str, Any] = given_values(Recipe, dict(zip(OTHERS, others, strict=True)))
    with about("train-rank"):
        if size := (size or "").strip():
            chosen[by] = number_from(size, by)
        elif by == "max_parameters":
            raise StudioError(
                "The maximum number of parameters is missing. Enter one such as 20k, or choose the size by rank."
            )
    with about("train-options"):
        lines = [line.strip() for line in (options or "").splitlines() if line.strip()]
        given = {key: parsed(value) for key, value in pairs(lines, "an option").items()}
    return Recipe(adapter=adapter, options=given, **chosen)


def _ranks(text: str) -> list[int]:
    """Further ranks, separated by commas."""
    try:
        return [int(rank) for rank in (text or "").split(",") if rank.strip()]
    except ValueError:
        raise FieldError("train-ranks", f"{text!r} is not a list of ranks. Enter ranks such as 4, 16.") from None


def _size_events(workflow: Workflow, tab: gr.Tab, form: dict[str, Any]) -> None:
    def purpose(adapter: str) -> tuple[Any, ...]:
        hints = [gr.Textbox(placeholder=_rate_hint(workflow.family, adapter, name)) for name in _RATES]
        return html.note(GOOD_FOR[adapter]), *hints

    def method(adapter: str) -> tuple[Any, str]:
        config = asdict(ADAPTERS[adapter].Config())
        options = [f"{name}={value}" for name, value in config.items() if name not in _HIDDEN_OPTIONS]
        info = "NAME=VALUE, one a line. Its defaults: " + (", ".join(options) or "it has none") + "."
        size = str(config["rank"]) if "rank" in config else ""
        return gr.Textbox(info=info), size

    def cost(adapter: str, by: str, size: str, options: str, *others: Any) -> str:
        with about("train-rank"):
            return html.size(workflow.cost(recipe_of(adapter, by, size, options, others)))

    def cost_again(*given: Any) -> Any:
        with suppress(*USER_ERRORS):  # which were told when they were written
            return cost(*given)
        return gr.skip()

    def preset(name: str) -> list[Any]:
        values = preset_values(workflow.family, name)
        return [_shown(option, values[option]) for option in _PRESET_OPTIONS]

    inputs = [form["adapter"], form["by"], form["size"], form["options"], *form["others"]]
    rates = [form["others"][OTHERS.index(name)] for name in _RATES]
    listen(form["adapter"].change, purpose, [form["adapter"]], [form["purpose"], *rates])
    # Not when the browser fills in what it kept
    listen(form["adapter"].input, method, [form["adapter"]], [form["options"], form["size"]])
    sites = form["others"][OTHERS.index("target_modules")]
    listen(tab.select, cost_again, inputs, [form["cost"]])
    for part in (form["adapter"], form["by"], form["size"], form["options"], sites):
        listen(part.change, cost, inputs, [form["cost"]], form["problem"], form="train",
               trigger_mode="always_last")  # fmt: skip
    changed = [form["others"][OTHERS.index(name)] for name in _PRESET_OPTIONS]
    listen(form["preset"].input, preset, [form["preset"]], changed)


def _queue_events(
    workflow: Workflow, hands: WorkerSupervisor, tab: gr.Tab, page: gr.Blocks, form: dict[str, Any]
) -> None:
    def names() -> Any:
        known = [concept.name for concept in workflow.library.page(MOST_LISTED, newest=True) if concept.pictures]
        return gr.Dropdown(choices=known, info=_SEVERAL if known else "Add one first, in the tab Concepts.")

    def queue(
        chosen: list[str], adapters: list[str], ranks: str, adapter: str, by: str, size: str, options: str, *others: Any
    ) -> tuple[Any, str]:
        if not chosen:
            raise FieldError("train-names", "No concept is chosen. Choose at least one to train.")
        recipe, further = recipe_of(adapter, by, size, options, others), _ranks(ranks)
        with about("train-names", (LibraryError,)):
            jobs = workflow.queue_trainings(
                [training for name in chosen for training in trainings_of(name, recipe, adapters, further)]
            )
        hands.ensure_running()
        told = f"{', '.join(job.concept for job in jobs)}: in the queue. You may close the page meanwhile."
        notes = workflow.training_notes(chosen, recipe)
        return [], html.note(told, "good") + "".join(map(html.note, notes))

    for trigger in (page.load, tab.select):
        listen(trigger, names, [], [form["names"]])
    several = [form["names"], form["adapters"], form["ranks"]]
    inputs = [*several, form["adapter"], form["by"], form["size"], form["options"], *form["others"]]
    listen(form["train"].click, queue, inputs, [form["names"], form["message"]], form["problem"], form="train")
