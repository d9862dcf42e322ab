"""Compares a single file's keys and shapes with those that its configurations ask for, without reading tensors."""

from pathlib import Path
from types import SimpleNamespace

from studio.formats.single_file_keys import original_tensors
from studio.models.checkpoints.completeness import MODELS, Shapes, compare, meta_model


def check_complete(path: Path, shapes: Shapes, configurations: Path, own: bool) -> None:
    """Raises StudioError for a single file that has a tensor of another shape than the model in the folder
    `configurations`, or lacks one. `own` says that the folder is the file's own, not the family's published one.
    """
    parts = {part: meta_model(configurations, part) for part in MODELS if (configurations / part).is_dir()}
    expected = {key: tuple(tensor.shape) for key, tensor in original_tensors(SimpleNamespace(**parts)).items()}
    advice = (
        f"Correct the configurations in {path.stem}/, or get another copy."
        if own
        else f"Put a diffusers folder with the model's configurations beside it, as {path.stem}/."
    )
    compare(path.name, shapes, expected, advice)
