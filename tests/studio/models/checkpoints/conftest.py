"""The tiny base as a single file with its configurations beside it."""

import shutil
from pathlib import Path

import pytest

from studio.formats.full_checkpoint import single_file_bytes
from studio.models.base_model import Base


@pytest.fixture(scope="session")
def whole_file(tmp_path_factory, loaded: Base, tiny_folder: Path) -> Path:
    """A checkpoint of the tiny base, model.safetensors, with its configurations in the folder model."""
    folder = tmp_path_factory.mktemp("single-file")
    (folder / "model.safetensors").write_bytes(single_file_bytes(loaded, None))
    shutil.copytree(tiny_folder, folder / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    return folder / "model.safetensors"
