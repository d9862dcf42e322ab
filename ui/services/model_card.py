"""The model card of a concept."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from concepts import Concept
from studio.adapters.concept_file import TrainedConcept
from studio.formats.exporting import Export
from studio.models.base_model import Base
from studio.models.families import licence_note
from studio.models.token_embeddings import token_of


def model_card(
    concept: Concept, trained: TrainedConcept, repository: str, base: Base, licence: str | None, lora: Export | None
) -> str:
    """README.md with the hub's metadata, pictures, use, recipe and scores; `lora` is None where there is none."""
    token = token_of(concept.name)
    on_hub, terms = "/" in base.name and not Path(base.name).exists(), licence_note(base.family)
    data = ModelCardData(
        license=licence,
        library_name="diffusers",
        base_model=base.name if on_hub else None,
        instance_prompt=f"a photo of {token}",
        tags=["concept-studio", "text-to-image", *(["lora"] if lora else [])],
    )
    scores = trained.metadata.get("scores") or (concept.result.scores if concept.result else {})
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {concept.name}\n\nA {concept.class_word}, learned by Concept Studio with `{trained.adapter}` on the base "
        f"{base.name}. Its trigger word is `{token}`.",
        f"![a photo of {token}](pictures.png)",
        _use(token, repository, lora),
        _table("Scores", scores) or "## Scores\n\nNone were kept.",
        _table("Recipe", trained.metadata.get("recipe", {}) | trained.config),
        f"## Licence\n\n{licence or 'The author named none: ask before you use it.'}",
        terms or "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _use(token: str, repository: str, lora: Export | None) -> str:
    ours = f'In Concept Studio: `studio pull {repository}`, then `studio generate "a photo of {token}"`.'
    if lora is None:
        return f"## Use\n\n{ours} No LoRA can represent what it changes, so other tools need a full checkpoint."
    mean = " Its token is the mean of the layers' own vectors, which only the studio reads." if lora.averaged else ""
    exact = "" if lora.error < 1e-6 else f" The LoRA is an approximation, with a relative error of {lora.error:.2f}."
    return "\n".join([
        "## Use", "", ours, "", f"In diffusers:{exact}{mean}", "", "```python",
        f'pipe.load_lora_weights("{repository}")',
        f'pipe.load_textual_inversion("{repository}", weight_name="{lora.tokens[token].name}", token="{token}")',
        f'pipe("a photo of {token} on the beach")', "```",
    ])  # fmt: skip


def _table(title: str, values: dict[str, Any]) -> str:
    rows = [f"| {key} | {_written(value)} |" for key, value in values.items() if not isinstance(value, dict)]
    return "\n".join([f"## {title}", "", "| | |", "|---|---|", *rows]) if rows else ""


def _written(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) and abs(value) >= 1e-3 else str(value)
