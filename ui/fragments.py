"""The parts of the page that are HTML: cards, reports on pictures, tables. Jinja escapes whatever a person wrote."""

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from concepts import Concept
from concepts.inspection import Inspected
from concepts.samples import SAMPLES
from ui.thumbnails import data_uri, thumbnail

_SHOWN = 60
_TEMPLATES = Environment(
    loader=PackageLoader("ui", "templates"), autoescape=select_autoescape(default=True), trim_blocks=True
)
_TEMPLATES.filters["thumbnail"] = thumbnail
_TEMPLATES.filters["data_uri"] = data_uri


def concept_cards(concepts: Sequence[Concept], wanted: str = "") -> str:
    """A card for each concept whose name or class word contains `wanted`; the newest first."""
    found = [c for c in reversed(concepts) if wanted.lower() in f"{c.name} {c.class_word}".lower()]
    return _render("cards.html", concepts=found[:_SHOWN], hidden=len(found) - _SHOWN, wanted=wanted)


def sample_cards(action: str) -> str:
    """A card for each sample concept, with a button of this name."""
    return _render("samples.html", samples=SAMPLES.values(), action=action)


def concept_facts(concept: Concept) -> str:
    """All that is known of a concept."""
    return _render("concept.html", concept=concept)


def inspection(items: Sequence[Inspected]) -> str:
    """Every picture with what is wrong with it."""
    return _render("inspection.html", items=items) if items else ""


def problem(sentence: str) -> str:
    """What is wrong, in red, beside the field that it is about."""
    return _render("problem.html", sentence=sentence) if sentence else ""


def note(sentence: str, level: str = "note") -> str:
    """What a person should know; `level` is note, good or empty."""
    return _render("note.html", sentence=sentence, level=level) if sentence else ""


def highlighted(parts: Sequence[tuple[str, str]]) -> str:
    """A prompt in parts: its text, and known, untrained, unknown or plain."""
    return _render("prompt.html", parts=parts) if any(kind != "plain" for _, kind in parts) else ""


def score_table(scores: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Alignments by picture and their means, with the backbone's name."""
    return _render("scores.html", scores=scores, rows=rows)


def _render(template: str, **values: Any) -> str:
    return _TEMPLATES.get_template(template).render(**values)
