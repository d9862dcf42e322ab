"""A fast start: what each command may import, found in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from concepts import Library
from concepts.database import migrations

ROOT = Path(__file__).parent.parent
RECORD = """
import sys
from pathlib import Path
from ui.cli.main import main
record = Path(sys.argv.pop(1))
try:
    main()
finally:
    record.write_text("\\n".join(sys.modules))
"""
"""A program that runs the command in its arguments, and writes what was imported to the file that comes first."""
MODELS = {"torch", "numpy", "diffusers", "transformers", "peft", "safetensors", "open_clip", "gradio", "matplotlib"}
DATABASE = {"sqlalchemy", "alembic", "fsspec", "upath", "PIL"}
NOT_FOR_GENERATING = {
    "alembic", "open_clip", "timm", "tensorboard", "torch.utils.tensorboard", "matplotlib", "gradio", "pandas",
    "pyarrow", "sklearn", "diffusers.training_utils", "training.engine", "training.jobs", "studio.metrics",
    "studio.formats", "studio.annotation", "studio.models.single_file", "studio.models.control",
}  # fmt: skip


def imported(folder: Path, *arguments: object) -> set[str]:
    """The modules that a command has imported in the end."""
    record = folder / "modules.txt"
    command = [sys.executable, "-c", RECORD, str(record), *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return {*record.read_text().split()}


def among(modules: set[str], forbidden: set[str]) -> set[str]:
    """Those of the forbidden packages and modules that were imported."""
    return {name for name in forbidden if name in modules or any(m.startswith(f"{name}.") for m in modules)}


@pytest.mark.parametrize("arguments", [("--help",), ("train", "--help"), ("study", "--help"), ("adapters",)])
def test_help_and_adapters_need_neither_models_nor_the_database(tmp_path: Path, arguments: tuple[str, ...]):
    assert not among(imported(tmp_path, *arguments), MODELS | DATABASE)


def test_listing_concepts_needs_no_models_and_no_migration(tmp_path: Path):
    library = tmp_path / "library"
    Library(library)
    modules = imported(tmp_path, "concept", "list", "--library", library)
    assert not among(modules, MODELS | {"alembic"})
    assert "sqlalchemy" in modules


def test_a_new_library_is_migrated_by_alembic(tmp_path: Path):
    assert "alembic" in imported(tmp_path, "concept", "list", "--library", tmp_path / "library")


def test_generating_needs_nothing_that_trains_scores_or_exports(tmp_path: Path, tiny_folder: Path):
    library = tmp_path / "library"
    Library(library)
    modules = imported(
        tmp_path, "generate", "a cat", "--base", tiny_folder, "--library", library, "--num-images", 1,
        "--num-inference-steps", 1, "-o", tmp_path / "pictures",
    )  # fmt: skip
    assert not among(modules, NOT_FOR_GENERATING)
    assert "torch" in modules


def test_migrations_are_numbered_as_alembic_orders_them():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "concepts:migrations")
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert [revision.revision for revision in script.walk_revisions()][::-1] == migrations()
