"""`studio import` of other tools' files: what is told, and that a refusal keeps nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from concepts import Library
from studio.adapters.concept_file import TrainedConcept, from_bytes
from tests.studio.formats.foreign_files import LAYOUTS, QUERY, TEXT, kohya, random, write
from tests.studio.formats.refused_files import REFUSED

VECTORS = random(2, 32)


@pytest.fixture
def options(library: Library, tiny_folder: Path) -> list[str]:
    return ["--library", str(library.root), "--base", str(tiny_folder)]


def concept_of(library: Library, name: str) -> TrainedConcept:
    result = library.concept(name).result
    assert result is not None
    return from_bytes(result.path.read_bytes(), name)


def token_of(library: Library, name: str) -> torch.Tensor:
    (parts,) = concept_of(library, name).tokens.values()
    return parts["text_encoder"]


@pytest.mark.parametrize("group", ["metadata", "family", "kind", "values"])
def test_a_refusal_is_one_sentence_and_keeps_nothing(
    studio: Callable, library: Library, options: list[str], tmp_path: Path, state: Callable, group: str
):
    before = state(library)
    for number, (case, (make, _)) in enumerate(REFUSED.items()):
        if case.startswith(group):
            folder = tmp_path / str(number)
            folder.mkdir()
            done = studio("import", make(folder), "--name", "again", *options)
            assert (done.status, done.out) == (2, ""), case
            assert done.err.startswith("Error: ")
            assert done.err.count("\n") == 1, case
    assert state(library) == before


@pytest.mark.parametrize("layout", ["dotted names of the original code", "half-dotted", "ComfyUI", "mixed"])
def test_a_layout(studio: Callable, options: list[str], tmp_path: Path, layout: str):
    done = studio("import", write(tmp_path, LAYOUTS[layout]()), "--name", "dragon", *options)
    assert not done.err
    assert done.status == 0


KEYS = ("emb_params", "string_to_param.*", "clip_l")


@pytest.mark.parametrize("key", KEYS)
def test_the_bundled_embedding_is_the_token(
    studio: Callable, library: Library, options: list[str], tmp_path: Path, key: str
):
    path = write(tmp_path, {**kohya(QUERY, TEXT), f"bundle_emb.my.dog.{key}": VECTORS})
    done = studio("import", path, "--name", "dragon", *options)
    assert not done.err
    assert done.status == 0
    assert torch.equal(token_of(library, "dragon"), VECTORS)


def test_what_of_a_bundle_is_not_used_is_told(studio: Callable, library: Library, options: list[str], tmp_path: Path):
    bundled = {**kohya(QUERY), "bundle_emb.dog.clip_l": VECTORS, "bundle_emb.dog.clip_g": random(2, 48)}
    done = studio("import", write(tmp_path, bundled), "--name", "a", *options)
    assert (done.status, "'clip_g' of the textual inversion dog in rex.safetensors is not used" in done.err) == (
        0,
        True,
    )
    done = studio("import", tmp_path / "rex.safetensors", "--name", "b", "--trigger", "sks dog", *options)
    assert (done.status, "The embedding dog that is bundled with the file is not used." in done.err) == (0, True)
    two = write(tmp_path, {**bundled, "bundle_emb.cat.emb_params": VECTORS})
    done = studio("import", two, "--name", "c", *options)
    assert (done.status, "bundles the embeddings" in done.err) == (2, True)
    assert studio("import", two, "--name", "c", "--trigger", "sks dog", *options).status == 0


def test_a_file_given_for_another(studio: Callable, library: Library, options: list[str], tmp_path: Path):
    lora = write(tmp_path, kohya(QUERY))
    (tmp_path / "token").mkdir()
    token = write(tmp_path / "token", {"emb_params": VECTORS})
    for arguments, said in (
        (["import", token, "--name", "a", "--tokens", token], "is a textual inversion, which is the token itself"),
        (["import", token, "--name", "a", "--trigger", "sks"], "Leave --tokens and --trigger out"),
        (["import", lora, "--name", "a", "--tokens", lora], "is a LoRA, not a textual inversion"),
        (
            ["generate", "a dog", "--concept", lora],
            f"is a LoRA of another tool. Add it to the library first: studio import {lora} --name NAME.",
        ),
        (["generate", "a dog", "--concept", token], "is a textual inversion of another tool"),
        (["merge", lora, "rex", "-o", tmp_path / "both.safetensors"], "is a LoRA of another tool"),
    ):
        done = studio(*arguments, *options)
        assert (done.status, said in done.err) == (2, True), done.err
    done = studio("import", lora, "--name", "a", "--tokens", token, *options)
    assert not done.err
    assert done.status == 0
    assert torch.equal(token_of(library, "a"), VECTORS)


def test_control_characters_of_the_metadata_stay_out(
    studio: Callable, library: Library, options: list[str], tmp_path: Path
):
    metadata = {
        "ss_output_name": "été\n\x1b[31mred",
        "ss_tag_frequency": "{broken",
        "modelspec.trigger_phrase": "\x00 ",
    }
    done = studio("import", write(tmp_path, kohya(QUERY), metadata), "--name", "a", *options)
    assert not done.err
    assert done.status == 0
    kept = concept_of(library, "a").metadata["imported"]
    assert kept["ss_output_name"] == "été  [31mred"
    assert kept["modelspec.trigger_phrase"] == ""


@pytest.mark.parametrize("key", [*KEYS, "<dragon>", "dragon"])
def test_a_textual_inversion_alone_is_a_concept(
    studio: Callable, library: Library, options: list[str], tmp_path: Path, key: str
):
    file = write(tmp_path, {key: VECTORS})
    write(tmp_path, {key: VECTORS + 1}).rename(tmp_path / "rex.tokens.safetensors")
    file = write(tmp_path, {key: VECTORS})
    done = studio("import", file, "--name", "dragon", *options)
    assert (done.status, done.err) == (0, "")
    assert torch.equal(token_of(library, "dragon"), VECTORS)
    assert concept_of(library, "dragon").adapter == "textual_inversion"
    quick = ["--num-images", "1", "--num-inference-steps", "1", "-o", tmp_path / "out"]
    assert studio("generate", "a <dragon> and <rex>", *quick, *options).status == 0
    assert studio("export", "dragon", "-o", tmp_path / "again.safetensors", *options).status == 0
    assert studio("import", tmp_path / "again.safetensors", "--name", "again", *options).status == 0
    assert torch.equal(token_of(library, "again"), VECTORS)


def test_several_tokens_in_a_file_are_refused(studio: Callable, options: list[str], tmp_path: Path):
    done = studio("import", write(tmp_path, {"<s0>": VECTORS, "<s1>": VECTORS}), "--name", "a", *options)
    assert (done.status, "has 2 tensors. Give a textual inversion file with one token" in done.err) == (2, True)
