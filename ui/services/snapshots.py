"""Snapshots of trainings: which there are, one in the place of the result, and one kept as the result."""

from dataclasses import replace

from concepts import Concept, Library, Result
from concepts.errors import LibraryError, StudioError
from concepts.storage import read_file


def trained_result(concept: Concept) -> Result:
    """The concept's result. Raises LibraryError where it is not trained."""
    if concept.result is None:
        raise LibraryError(f'"{concept.name}" is not trained yet, so it has no snapshots. Train it first.')
    return concept.result


def steps_of(concept: Concept) -> list[int]:
    """The steps of the concept's snapshots, and that of its result, ascending."""
    result = trained_result(concept)
    return sorted({kept["step"] for kept in result.snapshots} | {_step(result)})


def at_step(library: Library, name: str, step: int) -> Concept:
    """The concept with its snapshot after this step as the result, without changing the library.

    Raises LibraryError, with the steps that there are, where there is none.
    """
    concept = library.concept(name)
    result = trained_result(concept)
    if step == _step(result):
        return concept
    if step not in steps_of(concept):
        known = ", ".join(map(str, steps_of(concept)))
        raise LibraryError(
            f'"{concept.name}" has no snapshot after step {step}; it has {known}. Train it with '
            "save_every_n_steps to keep more."
        )
    return replace(concept, result=replace(result, path=result.snapshot(step)))


def keep_snapshot(library: Library, name: str, step: int) -> Result:
    """Makes a snapshot the concept's result; the result until now becomes a snapshot.

    Raises LibraryError where there is no such snapshot, and StudioError for the step of the result itself.
    """
    concept = library.concept(name)
    before = trained_result(concept)
    if step == _step(before):
        raise StudioError(f'The result of "{concept.name}" is that of step {step} already.')
    chosen = trained_result(at_step(library, name, step))
    steps = [kept["step"] for kept in before.snapshots if kept["step"] != step]
    files = {kept: before.snapshot(kept) for kept in steps} | {_step(before): before.path}
    previews = {kept: path.with_suffix(".png") for kept, path in files.items()} | {_step(before): before.preview}
    scores = {kept["step"]: kept["image_alignment"] for kept in before.snapshots}
    details = {
        **before.details, "base": before.base, "adapter": before.adapter, "rank": before.rank,
        "parameters": before.parameters, "step": step,
        "total_steps": before.details["total_steps"] - _step(before) + step,
        "scores": {"backbone": before.scores.get("backbone"), "image_alignment": scores[step]},
        "snapshots": [
            *(kept for kept in before.snapshots if kept["step"] != step),
            {"step": _step(before), "image_alignment": before.scores.get("image_alignment")},
        ],
    }  # fmt: skip
    preview = chosen.path.with_suffix(".png")
    return library.store_result(
        concept.name, read_file(chosen.path), details, read_file(preview) if preview.exists() else None,
        snapshots=[
            (kept, read_file(path), read_file(shown) if (shown := previews[kept]) and shown.exists() else None)
            for kept, path in files.items()
        ],
    )  # fmt: skip


def _step(result: Result) -> int:
    """The step of the training at which the result was taken."""
    return int(result.details.get("step", len(result.details.get("losses", ()))))
