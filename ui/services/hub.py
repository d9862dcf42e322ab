"""Concepts on the Hugging Face hub: the verbs behind `studio push` and `studio pull`."""

import json
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from concepts import Concept
from concepts.errors import StudioError
from concepts.names import check_words
from studio.adapters.concept_file import TrainedConcept, from_bytes, to_bytes
from studio.composition.loaded_concept import load_concept
from studio.formats.exporting import export
from studio.hub_access import hub_access
from studio.models.generation_request import GenerationRequest
from studio.models.token_embeddings import token_of
from ui.services.image_files import grid, png_bytes
from ui.services.model_card import model_card
from ui.services.workflow import Workflow

CONCEPT = "concept.safetensors"
"""The concept in the studio's own layout, which `pull` reads."""
RECORD = "studio.json"
LORA = "pytorch_lora_weights.safetensors"
"""What diffusers' `load_lora_weights` looks for in a repository."""
PICTURES = "pictures.png"
_IMAGES = 4


@hub_access()
def push(
    workflow: Workflow,
    name: str,
    repository: str,
    licence: str | None = None,
    private: bool = False,
    endpoint: str | None = None,
) -> str:
    """Uploads a trained concept with a model card, its LoRA and its token; returns the address.

    Raises StudioError where the hub refuses, and LibraryError for a concept that is not trained.
    """
    concept, trained = workflow.library.concept(name), workflow.loaded(name)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        _fill(workflow, concept, trained, folder, licence, repository)
        hub = HfApi(endpoint=endpoint)
        try:
            hub.create_repo(repository, private=private, exist_ok=True)
            sent = hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Concept {concept.name}")
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise StudioError(
                f"The Hugging Face Hub refused {repository} ({_short(error)}). Log in with `hf auth login`, and "
                f"give a repository of yours, such as you/{name}."
            ) from error
    return sent.repo_url.url if hasattr(sent, "repo_url") else str(sent)


def _fill(
    workflow: Workflow, concept: Concept, trained: TrainedConcept, folder: Path, licence: str | None, repository: str
) -> None:
    """Writes all that is uploaded into an empty folder."""
    (folder / CONCEPT).write_bytes(to_bytes(trained))
    record = {"name": concept.name, "class_word": concept.class_word, "base_name": workflow.base.name}
    (folder / RECORD).write_text(json.dumps(record, indent=2))
    prompt = f"a photo of {token_of(concept.name)}"
    images = workflow.generate(GenerationRequest(prompt=prompt, num_images=_IMAGES))
    (folder / PICTURES).write_bytes(png_bytes(grid(images)))
    try:
        made = export(workflow.base, {concept.name: trained}, "diffusers", folder / LORA)
    except StudioError:
        made = None  # it changes what no LoRA holds; the card says so
    card = model_card(concept, trained, repository, workflow.base, licence, made)
    (folder / "README.md").write_text(card)


@hub_access()
def pull(workflow: Workflow, repository: str, name: str | None = None, endpoint: str | None = None) -> Concept:
    """Downloads a concept that `push` uploaded into the library, under another name if one is given.

    Raises StudioError for a repository without a concept, or of another base, and LibraryError for a name that is
    taken. Columns that it shares with a concept of the library are recorded.
    """
    record, trained = _fetched(repository, endpoint)
    chosen, word = name or record["name"], record["class_word"]
    check_words(chosen, word)
    if trained.base != workflow.base.decomposition.fingerprint:
        raise StudioError(
            f"The concept was trained on the base {record['base_name']} with the fingerprint {trained.base}, "
            f"and that of this base is {workflow.base.decomposition.fingerprint}. Give that base with --base."
        )
    (parts,) = trained.tokens.values()
    own = TrainedConcept(
        trained.base, trained.adapter, trained.config, trained.adapters, {token_of(chosen): parts},
        {**trained.metadata, "name": chosen, "pulled_from": repository},
    )  # fmt: skip
    details = {
        "base": own.base,
        "adapter": own.adapter,
        "rank": own.config.get("rank", 0),
        "parameters": sum(t.numel() for state in own.adapters.values() for t in state.values()),
        "scores": own.metadata.get("scores", {}),
        "pulled_from": repository,
    }
    load_concept(workflow.base, own)  # refuses tensors that do not fit, before anything is kept
    workflow.library.add_trained(chosen, word, to_bytes(own), details)
    workflow.claim(chosen, own)
    return workflow.library.concept(chosen)


def _fetched(repository: str, endpoint: str | None) -> tuple[dict[str, Any], TrainedConcept]:
    """What the repository says of the concept, and the concept."""
    try:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(
                snapshot_download(repository, allow_patterns=[CONCEPT, RECORD], local_dir=made, endpoint=endpoint)
            )
            record, data = json.loads((folder / RECORD).read_text()), (folder / CONCEPT).read_bytes()
            record = {key: str(record[key]) for key in ("name", "class_word", "base_name")}
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError, KeyError) as error:
        raise StudioError(
            f"Nothing could be downloaded from {repository} ({_short(error)}). Give a repository that studio "
            "push wrote."
        ) from error
    return record, from_bytes(data, f"{CONCEPT} of {repository}")


def _short(error: Exception) -> str:
    """The first line of what a library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
