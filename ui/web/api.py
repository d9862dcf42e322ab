"""The verbs as named endpoints, for gradio_client and other programs; `studio ui --api` opens them."""

import inspect
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from concepts import Concept, Job, LibraryError, read_picture
from concepts.errors import StudioError
from concepts.images.near_duplicates import inspect_pictures
from concepts.patterns import NAME
from studio.models.generation_request import AUTO, GenerationRequest
from training.config.recipe import Recipe
from ui.services.control import refuse_local_models
from ui.services.error_messages import USER_ERRORS, sentence
from ui.services.gallery import check_number, keep, save_masks, with_settings
from ui.services.import_export import export_for_download
from ui.services.scoring.comparison import Axis, compare
from ui.services.scoring.comparison_files import as_picture
from ui.services.workflow import Workflow, summary
from ui.web.tabs.events import MODEL
from ui.web.worker_supervisor import WorkerSupervisor

_WITH_MODEL = ("generate", "score", "compare", "export")


class Settings(GenerationRequest, extra="forbid"):
    """What is to be generated, with no setting that there is not."""


class Endpoints:
    """The verbs on plain data. A file that comes is one that was uploaded before, by gradio_client's handle_file; one
    that goes is a copy in the page's own folder.
    """

    def __init__(self, workflow: Workflow, hands: WorkerSupervisor):
        self._workflow, self._library, self._hands = workflow, workflow.library, hands

    def concepts(self) -> list[dict[str, Any]]:
        """Every concept of the library."""
        return [_concept(concept) for concept in self._library.concepts()]

    def add_concept(self, name: str, class_word: str, pictures: list[dict[str, Any]]) -> dict[str, Any]:
        """Adds a concept; all of its pictures, or none."""
        items = inspect_pictures(_uploaded(pictures))
        if problems := [item.problem for item in items if item.problem]:
            raise LibraryError(" ".join(problems))
        return _concept(self._library.add_concept(name, class_word, [item.imported for item in items if item.imported]))

    def train(self, name: str, recipe: dict[str, Any] | None = None) -> dict[str, Any]:
        """Queues a training, with the options of a recipe that differ from its defaults; returns the job."""
        (job,) = self._workflow.queue([name], Recipe(**(recipe or {})))
        self._hands.ensure_running()
        return _job(job)

    def job(self, identifier: str) -> dict[str, Any]:
        """A training job: its state and step, with the loss of every step."""
        self._hands.ensure_running()
        job = self._library.jobs.job(identifier)
        return {**_job(job), "losses": self._library.jobs.losses(job.id)}

    def cancel(self, identifier: str) -> dict[str, Any]:
        """Cancels a training."""
        return _job(self._library.jobs.cancel(identifier))

    def generate(
        self, prompt: str = "", settings: dict[str, Any] | None = None, prompts: list[str] | None = None
    ) -> list[dict[str, Any]]:
        """Generates images of a prompt, or of each of several, with the settings that differ from their defaults: those
        of GenerationRequest, such as num_images, seed, scheduler, strengths or regions. Image, mask and the masks of
        regions are files.
        """
        asked = [_requested(each, settings or {}) for each in prompts or [prompt]]
        requests = [request.with_defaults(self._workflow.family) for request in asked]
        check_number(sum(request.num_images for request in requests))
        return [_file(file) for request in requests for file in self._kept(request)]

    def _kept(self, request: GenerationRequest) -> Iterator[Path]:
        """The files of a request's images, as each is kept with its masks."""
        masks: dict[int, Any] = {}
        for seed, image in self._workflow.generate_each(request, on_masks=masks.__setitem__):
            file = keep(self._library.local, with_settings(image, request, seed))
            save_masks(file, masks.pop(seed, {}))
            yield file

    def score(self, pictures: list[dict[str, Any]], prompt: str, concept: str = "") -> dict[str, Any]:
        """Alignment of pictures with a prompt and, if one is named, with a concept's pictures."""
        loaded = [read_picture(file, file.name) for file in _uploaded(pictures)]
        references = self._workflow.pictures(self._library.concept(concept)) if concept else []
        scores = self._workflow.score(loaded, self._workflow.plain(prompt), references)
        return {**summary(scores), "pictures": {"image_alignment": scores.image, "text_alignment": scores.text}}

    def compare(
        self, prompt: str, across: Axis, across_values: str, down: Axis = "none", down_values: str = "",
        settings: dict[str, Any] | None = None,
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:  # fmt: skip
        """Generates one picture for each pair of values along two axes; returns each one's scores, and the grid."""
        request = _requested(prompt, {**(settings or {}), "num_images": 1}).with_defaults(self._workflow.family)
        *_, grid = compare(self._workflow, request, (across, across_values), (down, down_values))
        file = Path(tempfile.mkdtemp()) / "comparison.png"
        as_picture(grid, prompt).save(file)
        return [
            {"across": grid.columns[cell.column], "down": grid.rows[cell.row], **cell.scores} for cell in grid.cells
        ], _file(file)

    def export(self, name: str, layout: str = "kohya") -> list[dict[str, Any]]:
        """A trained concept for other tools: kohya, diffusers or peft; its token is a textual inversion file."""
        files, _ = export_for_download(self._workflow, name, layout)
        return [_file(file) for file in files]


def open_api(workflow: Workflow, hands: WorkerSupervisor) -> None:
    """Adds an endpoint for each verb to the page that is being built."""
    endpoints = Endpoints(workflow, hands)
    for name, verb in inspect.getmembers(endpoints, inspect.ismethod):
        if name.startswith("_"):
            continue
        shared = MODEL if name in _WITH_MODEL else None
        gr.api(_refusing(verb), api_name=name, concurrency_id=shared, concurrency_limit=1)


def _refusing(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The same verb, whose refusals a client reads as the sentences that they are."""

    @wraps(verb)
    def refusing(*given: Any, **options: Any) -> Any:
        try:
            return verb(*given, **options)
        except USER_ERRORS as error:
            raise gr.Error(sentence(error), print_exception=False) from error

    return refusing


def _uploaded(files: Sequence[Any]) -> list[Path]:
    """The files, if they were uploaded here: no other file of this machine is read."""
    folder = Path(get_upload_folder()).resolve()
    paths = [Path(str(file.get("path", "")) if isinstance(file, dict) else "").resolve() for file in files]
    if not all(path.is_relative_to(folder) and path.is_file() for path in paths):
        raise StudioError("The API only reads uploaded files. Upload each picture with gradio_client's handle_file.")
    return paths


def _requested(prompt: str, settings: dict[str, Any]) -> GenerationRequest:
    """The request. Raises StudioError where it names files of this machine that were not uploaded."""
    if any(not NAME.fullmatch(str(name)) for name in settings.get("concepts") or ()):
        raise StudioError("The API accepts names of concepts in the library, not files.")
    control = [dict(each) for each in settings.get("control") or ()]
    images = _uploaded([each.get("image") for each in control])
    given = [{**each, "image": str(image)} for each, image in zip(control, images, strict=True)]
    own = [key for key in ("image", "mask") if settings.get(key) is not None]
    start = dict(zip(own, map(str, _uploaded([settings[key] for key in own])), strict=True))
    request = Settings(prompt=prompt, **{**settings, **start, **_regions(settings), "control": given})
    refuse_local_models(request.control)
    return request


def _regions(settings: dict[str, Any]) -> dict[str, Any]:
    """The field of a request with the regions, whose masks are uploaded files; nothing where there are none."""
    regions = settings.get("regions")
    if not isinstance(regions, dict):
        return {}
    masks = {name: place for name, place in regions.items() if isinstance(place, str | dict) and place != AUTO}
    files = map(str, _uploaded([*masks.values()]))
    return {"regions": {**regions, **dict(zip(masks, files, strict=True))}}


def _file(path: Path) -> dict[str, Any]:
    return gr.FileData(path=str(path), orig_name=path.name).model_dump()


def _concept(concept: Concept) -> dict[str, Any]:
    """A concept as plain data, without the paths of its files."""
    result = concept.result
    facts = ("adapter", "rank", "parameters", "scores")
    return {
        "name": concept.name,
        "class": concept.class_word,
        "pictures": len(concept.pictures),
        "columns": [{"space": block.space, "first": block.start, "count": block.width} for block in concept.columns],
        "trained": result and {fact: getattr(result, fact) for fact in facts},
    }


def _job(job: Job) -> dict[str, Any]:
    """A job as plain data."""
    return {fact: getattr(job, fact) for fact in ("id", "concept", "state", "step", "steps", "loss", "error")}
