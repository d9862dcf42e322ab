"""LyCORIS' layout keeps a concept's own tensors, and reads back as the very change."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from concepts.errors import StudioError
from studio.adapters import ADAPTERS
from studio.composition.loaded_concept import load_concept
from studio.composition.merge import merged_changes
from studio.composition.merge_config import MergeConfig
from studio.formats.exporting import export
from studio.formats.importing import import_concept
from studio.models.base_model import Base

TOKENS = ("textual_inversion", "prompt_tuning")
OWN_KEYS = {
    "lora": {"lora_up.weight", "lora_down.weight", "alpha"},
    "loha": {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"},
    "lokr": {"lokr_w1", "lokr_w2", "alpha"},
    "krona": {"lokr_w1", "lokr_w2", "alpha"},
    "dora": {"diff"},
    "full": {"diff"},
    "layer_norm": {"w_norm", "b_norm"},
    "bitfit": {"diff_b", "w_norm", "b_norm"},
}


@pytest.mark.parametrize("adapter", [name for name in ADAPTERS if name not in (*TOKENS, "ada_link", "prefix_tuning")])
def test_what_is_written_reads_back_as_the_change(base: Base, adapter: str, tmp_path: Path, random_concept):
    concepts = {"rex": random_concept(base, adapter)}
    made = export(base, concepts, "lycoris", tmp_path / "rex.safetensors")
    roles = {key.partition(".")[2] for key in load_file(made.path)}
    if adapter in OWN_KEYS:
        assert roles == OWN_KEYS[adapter]
    read = import_concept(base, made.path, {})
    theirs, their_biases = merged_changes(base, {"rex": read}, MergeConfig("fedavg"))
    loaded = load_concept(base, concepts["rex"])
    ours = {name: module.delta(loaded.sites[name].weight) for name, module in loaded.modules.items()}
    biases = {
        name: m.bias_delta(loaded.sites[name].weight, loaded.sites[name].bias) for name, m in loaded.modules.items()
    }
    our_biases = {name: change for name, change in biases.items() if change is not None}
    changed = {name: delta for name, delta in ours.items() if delta.any()}
    assert changed.keys() == {name for name, delta in theirs.items() if delta.any()}
    for name, delta in changed.items():
        torch.testing.assert_close(theirs[name], delta, rtol=1e-4, atol=1e-5)
    assert our_biases.keys() == their_biases.keys()
    for name, change in our_biases.items():
        torch.testing.assert_close(their_biases[name], change, rtol=1e-4, atol=1e-5)


def test_several_concepts_are_differences_of_the_merge(base: Base, tmp_path: Path, random_concept):
    concepts = {"rex": random_concept(base, "lora"), "milo": random_concept(base, "loha", "milo", seed=2)}
    config = MergeConfig("fedavg", {"milo": 0.5})
    made = export(base, concepts, "lycoris", tmp_path / "both.safetensors", config)
    assert {key.partition(".")[2] for key in load_file(made.path)} == {"diff"}
    read = import_concept(base, made.path, {})
    expected, found = (
        merged_changes(base, each, own)[0] for each, own in ((concepts, config), ({"both": read}, MergeConfig()))
    )
    for name, delta in expected.items():
        torch.testing.assert_close(found[name], delta, rtol=1e-4, atol=1e-6)


def test_a_strength_is_part_of_the_file(base: Base, tmp_path: Path, random_concept):
    concepts = {"rex": random_concept(base, "dora")}
    config = MergeConfig("fedavg", {"rex": 0.5})
    made = export(base, concepts, "lycoris", tmp_path / "rex.safetensors", config)
    read = import_concept(base, made.path, {})
    expected, found = (
        merged_changes(base, each, own)[0] for each, own in ((concepts, config), ({"rex": read}, MergeConfig()))
    )
    for name, delta in expected.items():
        torch.testing.assert_close(found[name], delta, rtol=1e-4, atol=1e-6)


def test_embeddings_are_refused(base: Base, tmp_path: Path, random_concept):
    with pytest.raises(StudioError, match="Export it with --format full"):
        export(base, {"rex": random_concept(base, "ada_link")}, "lycoris", tmp_path / "rex.safetensors")


@pytest.mark.parametrize("layout", ["kohya", "diffusers", "lycoris"])
@pytest.mark.parametrize("adapter", TOKENS)
def test_a_token_alone_is_one_embedding_file(base: Base, adapter: str, layout: str, tmp_path: Path, random_concept):
    concept = random_concept(base, adapter, vectors=3)
    made = export(base, {"rex": concept}, layout, tmp_path / "rex.safetensors")
    assert made.path == made.tokens["<rex>"] == tmp_path / "rex.safetensors"
    assert [*tmp_path.iterdir()] == [made.path]
    (vectors,) = load_file(made.path).values()
    assert torch.equal(vectors, next(iter(concept.tokens["<rex>"].values())))


def test_tokens_alone_are_exported_one_by_one_and_into_a_file(base: Base, tmp_path: Path, random_concept):
    rex, milo = random_concept(base, "textual_inversion"), random_concept(base, "textual_inversion", "milo")
    with pytest.raises(StudioError, match="Export one at a time"):
        export(base, {"rex": rex, "milo": milo}, "kohya", tmp_path / "both.safetensors")
    with pytest.raises(StudioError, match="PEFT's format cannot store"):
        export(base, {"rex": rex}, "peft", tmp_path / "rex")
    assert not [*tmp_path.iterdir()]
