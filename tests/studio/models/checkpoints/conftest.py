"""The tiny base as a single file with its configurations beside it."""

from pathlib import Path

import pytest

from studio.models.base_model import Base
from tests.tiny_models import write_whole_file


@pytest.fixture(scope="session")
def whole_file(tmp_path_factory, loaded: Base, tiny_folder: Path) -> Path:
    """A checkpoint of the tiny base, model.safetensors, with its configurations in the folder model."""
    return write_whole_file(tmp_path_factory.mktemp("single-file"), loaded, tiny_folder)
