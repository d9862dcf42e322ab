"""`studio export` and `studio import`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from concepts import Library


@pytest.fixture
def options(library: Library, tiny_folder: Path) -> list[str]:
    return ["--library", str(library.root), "--base", str(tiny_folder)]


def test_there_and_back(studio: Callable, library: Library, options: list[str], tmp_path: Path):
    made = studio("export", "rex", "--format", "kohya", "-o", tmp_path / "rex.safetensors", "--json", *options)
    assert made.status == 0, made.err
    assert made.document["rank"] == 8
    assert made.document["error"] < 1e-6
    assert made.document["tokens"] == {"<rex>": str(tmp_path / "rex.tokens.safetensors")}
    with safe_open(tmp_path / "rex.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_module"] == "networks.lora"
    assert (metadata["ss_network_dim"], metadata["modelspec.trigger_phrase"]) == ("8", "<rex>")
    assert len(metadata["sshs_model_hash"]) == 64
    back = studio("import", tmp_path / "rex.safetensors", "--name", "again", "--class", "dog", "--json", *options)
    assert back.status == 0, back.err
    assert back.document["trained"]["adapter"] == "imported"
    generated = studio(
        "generate",
        "a photo of <again> and <lora>",
        "--num-images",
        1,
        "--num-inference-steps",
        1,
        "-o",
        tmp_path / "pictures",
        *options,
    )
    assert generated.status == 0, generated.err
    listed = studio("concept", "list", *options[:2])
    assert "again" in listed.out
    training = studio("train", "again", *options)
    assert (training.status, "has no pictures" in training.err) == (2, True)


def test_several_and_a_note(studio: Callable, options: list[str], tmp_path: Path):
    made = studio("export", "rex", "Milo", "-o", tmp_path / "both.safetensors", "--strength", "rex=0.5", *options)
    assert made.status == 0, made.err
    assert "kohya of rank 16" in made.out
    assert (tmp_path / "both.Milo.tokens.safetensors").exists()


def test_the_trigger(studio: Callable, library: Library, options: list[str], tmp_path: Path):
    studio("export", "lora", "--format", "diffusers", "-o", tmp_path / "l.safetensors", *options)
    (tmp_path / "l.tokens.safetensors").unlink()
    done = studio("import", tmp_path / "l.safetensors", "--name", "l", "--trigger", "sks vase", *options)
    assert done.status == 0, done.err
    from studio.adapters.concept_file import from_bytes

    result = library.concept("l").result
    assert result is not None
    (parts,) = from_bytes(result.path.read_bytes(), "l").tokens.values()
    assert len(parts["text_encoder"]) > 1


def test_a_refusal_changes_nothing(
    studio: Callable, library: Library, options: list[str], tmp_path: Path, state: Callable
):
    before = state(library)
    (tmp_path / "bad.safetensors").write_bytes(b"12345678910")
    for arguments in (
        ["import", tmp_path / "bad.safetensors", "--name", "bad"],
        ["import", tmp_path / "bad.safetensors", "--name", "rex"],
        ["import", tmp_path / "bad.safetensors", "--name", "no/name"],
        ["export", "idle", "-o", tmp_path / "idle.safetensors"],
        ["export", "rex", "-o", tmp_path / "rex.pt"],
    ):
        assert studio(*arguments, *options).status == 2
    studio("export", "rex", "-o", tmp_path / "rex.safetensors", *options)
    taken = studio("import", tmp_path / "rex.safetensors", "--name", "Rex", *options)
    assert (taken.status, 'A concept "rex" already exists' in taken.err) == (2, True)
    assert state(library) == before
