"""What we export, loaded by diffusers and PEFT themselves, generates what we generate."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import PeftModel
from safetensors import safe_open

from concepts.errors import StudioError
from studio.adapters import ADAPTERS
from studio.bundled import TOYBOX
from studio.composition.merge import merged_deltas
from studio.composition.merge_config import MergeConfig
from studio.formats.exporting import export
from studio.models.base_model import Base, load_base

NO_LORA = ("ada_link", "bitfit", "layer_norm", "difffit")
ELSEWHERE = ("textual_inversion", "prompt_tuning", "prefix_tuning", "t_lora")
"""tests/studio/formats/test_lycoris.py and tests/studio/composition/test_output_changes.py test these."""
AS_LORA = [name for name in ADAPTERS if name not in (*NO_LORA, *ELSEWHERE)]
WITH_BIASES = ("seq_lora", "hydra", "ia3", "glora")
PIXEL = 1e-3

# Not ours: PEFT warns for each layer without a bias that its LoRA with a bias cannot be merged.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*lora_bias=True"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing"),
]


def loaded(pipeline: StableDiffusionPipeline, path: Path, tokens: dict[str, Path]) -> StableDiffusionPipeline:
    for token, file in tokens.items():
        pipeline.load_textual_inversion(str(file), token=token)
    pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    return pipeline


@pytest.mark.parametrize("adapter", AS_LORA)
def test_a_picture_is_ours(
    base: Base, pipeline, adapter: str, tmp_path: Path, random_concept, our_picture, their_picture
):
    concepts = {"rex": random_concept(base, adapter)}
    ours = our_picture(base, concepts)
    plain = their_picture(pipeline)
    for layout in ("kohya", "diffusers"):
        made = export(base, concepts, layout, tmp_path / f"{layout}.safetensors", rank=1000)
        theirs = their_picture(loaded(pipeline, made.path, made.tokens))
        assert made.error < 1e-6
        assert np.abs(ours - plain).max() > 0.01
        if layout == "kohya" and adapter in WITH_BIASES:
            assert made.lost_biases > 0
        else:
            assert np.abs(ours - theirs).max() < PIXEL
        pipeline.unload_lora_weights()
        pipeline.unload_textual_inversion()


def test_a_pruned_ada_lora_has_a_rank_of_its_own_at_each_layer(
    base: Base, pipeline, tmp_path: Path, random_concept, our_picture, their_picture
):
    whole = random_concept(base, "ada_lora")
    left = {
        site: {"left": s["left"][:, :rank], "values": s["values"][:rank], "right": s["right"][:rank]}
        for index, (site, s) in enumerate(whole.adapters.items())
        if (rank := index % 4)
    }
    concepts = {"rex": replace(whole, adapters=left)}
    ours = our_picture(base, concepts)
    for layout in ("kohya", "diffusers"):
        made = export(base, concepts, layout, tmp_path / f"{layout}.safetensors")
        with safe_open(made.path, "pt") as file:
            downs = [file.get_tensor(key) for key in file.keys() if "down.weight" in key or "lora_A" in key]  # noqa: SIM118
        assert {len(down) for down in downs} == {1, 2, 3}
        assert made.error < 1e-6
        theirs = their_picture(loaded(pipeline, made.path, made.tokens))
        assert np.abs(ours - theirs).max() < PIXEL
        pipeline.unload_lora_weights()
        pipeline.unload_textual_inversion()


@pytest.mark.slow
@pytest.mark.parametrize("adapter", AS_LORA)
def test_a_picture_of_toybox_is_ours(
    base: Base, adapter: str, tmp_path: Path, random_concept, our_picture, their_picture
):
    toybox = load_base("toybox", device="cpu")
    concepts = {"rex": random_concept(toybox, adapter, size=0.02)}
    ours = our_picture(toybox, concepts)
    for layout in ("kohya", "diffusers"):
        made = export(toybox, concepts, layout, tmp_path / f"{layout}.safetensors", rank=1000)
        pipeline = StableDiffusionPipeline.from_pretrained(TOYBOX, dtype=torch.float32, safety_checker=None)
        difference = np.abs(ours - their_picture(loaded(pipeline, made.path, made.tokens))).max()
        print(f"{adapter} {layout}: rank {made.rank}, error {made.error:.1e}, pixels {difference:.1e}")
        assert difference < PIXEL or (layout == "kohya" and adapter in WITH_BIASES)


def test_a_token_of_several_vectors(base: Base, pipeline, tmp_path: Path, random_concept, our_picture, their_picture):
    concepts = {"rex": random_concept(base, "lora", vectors=3)}
    made = export(base, concepts, "diffusers", tmp_path / "rex.safetensors")
    theirs = their_picture(loaded(pipeline, made.path, made.tokens))
    assert np.abs(our_picture(base, concepts) - theirs).max() < PIXEL


def test_a_merge_of_two(base: Base, pipeline, tmp_path: Path, random_concept, our_picture, their_picture):
    concepts = {
        "rex": random_concept(base, "spectral_additive"),
        "milo": random_concept(base, "lora_xs", "milo", 2),
    }
    plan = MergeConfig("fedavg", {"rex": 0.7})
    made = export(base, concepts, "kohya", tmp_path / "both.safetensors", plan)
    assert sorted(path.name for path in made.tokens.values()) == [
        "both.milo.tokens.safetensors", "both.rex.tokens.safetensors",
    ]  # fmt: skip
    assert (made.rank, made.error < 1e-6) == (12, True)
    theirs = their_picture(loaded(pipeline, made.path, made.tokens))
    assert np.abs(our_picture(base, concepts, plan) - theirs).max() < PIXEL


@pytest.mark.parametrize("adapter", ["spectral_rotational", "hydra"])
def test_peft_reads_its_folders(
    base: Base, pipeline, adapter: str, tmp_path: Path, random_concept, our_picture, their_picture
):
    concepts = {"rex": random_concept(base, adapter)}
    made = export(base, concepts, "peft", tmp_path / "rex")
    pipeline.load_textual_inversion(str(made.tokens["<rex>"]))
    pipeline.unet = PeftModel.from_pretrained(pipeline.unet, made.path / "unet")
    pipeline.text_encoder = PeftModel.from_pretrained(pipeline.text_encoder, made.path / "text_encoder")
    assert np.abs(our_picture(base, concepts) - their_picture(pipeline)).max() < PIXEL


@pytest.mark.parametrize(
    ("adapter", "single"), [("bitfit", False), ("ada_link", False), ("difffit", True), ("krona", True)]
)
def test_a_full_checkpoint(
    base: Base, tiny_folder: Path, adapter: str, single: bool, tmp_path: Path, state_of, random_concept, our_picture,
    their_picture,
):  # fmt: skip
    concepts, before = {"rex": random_concept(base, adapter)}, state_of(base)
    made = export(base, concepts, "full", tmp_path / ("rex.safetensors" if single else "rex"))
    assert state_of(base) == before
    if single:
        pipeline = StableDiffusionPipeline.from_single_file(
            str(made.path), config=str(tiny_folder), safety_checker=None, local_files_only=True
        )
    else:
        pipeline = StableDiffusionPipeline.from_pretrained(made.path, safety_checker=None)
    pipeline.load_textual_inversion(str(made.tokens["<rex>"]))
    assert np.abs(our_picture(base, concepts) - their_picture(pipeline)).max() < PIXEL


@pytest.mark.parametrize("position", ["output", "latents", "input_and_latents"])
def test_a_link_of_text_or_latents_is_folded(
    base: Base, position: str, tmp_path: Path, random_concept, our_picture, their_picture
):
    concepts = {"rex": random_concept(base, "ada_link", position=position)}
    made = export(base, concepts, "full", tmp_path / "rex")
    pipeline = StableDiffusionPipeline.from_pretrained(made.path, safety_checker=None)
    pipeline.load_textual_inversion(str(made.tokens["<rex>"]))
    assert np.abs(our_picture(base, concepts) - their_picture(pipeline)).max() < PIXEL


@pytest.mark.parametrize("adapter", NO_LORA)
def test_what_is_no_lora_is_refused(base: Base, adapter: str, tmp_path: Path, random_concept: Callable):
    with pytest.raises(StudioError, match="--format full"):
        export(base, {"rex": random_concept(base, adapter)}, "kohya", tmp_path / "rex.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rank", [4, 16])
def test_the_error_is_that_of_the_best_lora(base: Base, rank: int, tmp_path: Path, random_concept: Callable):
    concept = random_concept(base, "oft")
    made = export(base, {"rex": concept}, "kohya", tmp_path / "rex.safetensors", rank=rank)
    values = [torch.linalg.svdvals(delta.detach()) for delta in merged_deltas(base, {"rex": concept}).values()]
    squares = torch.stack([torch.stack([s.square().sum(), s[rank:].square().sum()]) for s in values]).sum(0)
    assert made.rank == rank
    assert made.error == pytest.approx(float((squares[1] / squares[0]).sqrt()), rel=1e-4)


@pytest.mark.parametrize(
    ("layout", "name"), [("kohya", "rex.bin"), ("peft", "rex.safetensors"), ("onnx", "rex"), ("full", "none/rex")]
)
def test_names_that_will_not_do(base: Base, layout: str, name: str, tmp_path: Path, random_concept: Callable):
    with pytest.raises(StudioError):
        export(base, {"rex": random_concept(base, "lora")}, layout, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(base: Base, tmp_path: Path, random_concept: Callable):
    (tmp_path / "rex.tokens.safetensors").touch()
    with pytest.raises(StudioError, match="already exists"):
        export(base, {"rex": random_concept(base, "lora")}, "kohya", tmp_path / "rex.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["rex.tokens.safetensors"]
