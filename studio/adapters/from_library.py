"""Trained concepts from the library."""

from dataclasses import replace

from concepts import Concept, LibraryError
from concepts.storage import read_file
from studio.adapters.concept_file import TrainedConcept, from_bytes
from studio.models.token_embeddings import token_of


def read_concept(concept: Concept) -> TrainedConcept:
    """What training made of a concept of the library, its tensors as float32 on the CPU.

    Its token is called by the concept's present name. Raises LibraryError for a concept that is not trained, and
    StudioError for a file that is damaged.
    """
    if concept.result is None:
        raise LibraryError(f'"{concept.name}" is not trained yet. Run studio train {concept.name} first.')
    trained = from_bytes(read_file(concept.result.path), f'The file of "{concept.name}"')
    if token_of(concept.name) in trained.tokens or len(trained.tokens) != 1:
        return trained
    (vectors,) = trained.tokens.values()  # the concept was renamed since it was trained
    return replace(trained, tokens={token_of(concept.name): vectors})
