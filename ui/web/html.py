"""The parts of the page that are HTML: cards, reports on pictures, tables. Jinja escapes whatever a person wrote."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from concepts import Concept, Job
from concepts.images.near_duplicates import Inspected
from concepts.samples import SAMPLES
from studio.adapters.cost import Cost
from training.jobs.previews import StoredPreview
from ui.web.thumbnails import data_uri, first_preview, fitted, full, thumbnail, whole

MOST_CARDS = 60
_TOLD = count()
_TEMPLATES = Environment(
    loader=PackageLoader("ui.web", "templates"), autoescape=select_autoescape(default=True), trim_blocks=True
)
_TEMPLATES.filters["thumbnail"] = thumbnail
_TEMPLATES.filters["first_preview"] = first_preview
_TEMPLATES.filters["data_uri"] = data_uri
_TEMPLATES.filters["fitted"] = fitted
_TEMPLATES.filters["full"] = full
_TEMPLATES.filters["whole"] = whole


def concept_cards(concepts: Sequence[Concept]) -> str:
    """A card for each of these concepts, MOST_CARDS at most, and how to find others."""
    return _render("cards.html", concepts=concepts[:MOST_CARDS], more=len(concepts) > MOST_CARDS)


def sample_cards(action: str) -> str:
    """A card for each sample concept, with a button of this name."""
    return _render("samples.html", samples=SAMPLES.values(), action=action)


def concept_facts(concept: Concept) -> str:
    """All that is known of a concept."""
    return _render("concept.html", concept=concept)


def picture_strip(concept: Concept, chosen: int) -> str:
    """A concept's pictures, one of them chosen, with marks on those that have a caption or a mask."""
    return _render("pictures.html", concept=concept, chosen=chosen)


def inspection(items: Sequence[Inspected]) -> str:
    """Every picture with what is wrong with it."""
    return _render("inspection.html", items=items) if items else ""


def problem(sentence: str, field: str = "") -> str:
    """What is wrong, in red; the page puts it beside the field of this id.

    The same sentence twice differs by a number, since the page hears of changes alone.
    """
    return _render("problem.html", sentence=sentence, field=field, number=next(_TOLD)) if sentence else ""


def note(sentence: str, level: str = "note") -> str:
    """What a person should know; `level` is note, good or empty. It is numbered as a problem is."""
    return _render("note.html", sentence=sentence, level=level, number=next(_TOLD)) if sentence else ""


def highlighted(parts: Sequence[tuple[str, str]]) -> str:
    """A prompt in parts: its text, and known, untrained, unknown or plain."""
    return _render("prompt.html", parts=parts) if any(kind != "plain" for _, kind in parts) else ""


def score_table(scores: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Alignments by picture and their means, with the backbone's name."""
    return _render("scores.html", scores=scores, rows=rows)


def benchmark_table(document: dict[str, Any]) -> str:
    """The measures of a benchmark's prompts as far as they are generated, and their means."""
    measured = [measure for measure in document["measures"] if document["mean"][measure] is not None]
    return _render("benchmark.html", document=document, measures=measured)


def job_list(jobs: Sequence[Job], chosen: str, words: Callable[[Job], str]) -> str:
    """Trainings with where they stand, in `words`, and buttons to cancel and resume them."""
    return _render("jobs.html", jobs=jobs, chosen=chosen, words=words)


def preview_list(previews: Sequence[StoredPreview]) -> str:
    """What a training would have given after some of its steps, the last first."""
    return _render("previews.html", previews=previews[::-1]) if previews else ""


def concept_outcome(concept: Concept) -> str:
    """What the last training of a concept made: its preview and its facts."""
    return _render("outcome.html", concept=concept)


def size(cost: Cost) -> str:
    """What a method trains, and the length of its file."""
    return _render("size.html", cost=cost)


def comparison(grid: Any, caption: Callable[[Any], str]) -> str:
    """An XY grid as a table of pictures."""
    return _render("comparison.html", grid=grid, caption=caption)


def _render(template: str, **values: Any) -> str:
    return _TEMPLATES.get_template(template).render(**values)
