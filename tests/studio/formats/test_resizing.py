"""A LoRA file at another rank: what is kept, what is said of it, and what is refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from concepts.errors import StudioError
from studio.composition.loaded_concept import load_concept
from studio.formats.exporting import export
from studio.formats.importing import import_concept
from studio.formats.resizing import resize_lora
from studio.formats.safe_reading import read_tensors
from studio.layers.rank_choice import RankChoice
from studio.models.base_model import Base
from tests.studio.formats.foreign_files import (
    A_B,
    CONV,
    FLAT,
    LAYOUTS,
    NORM,
    QUERY,
    SHAPES,
    flat,
    kohya,
    peft_folder,
    random,
    spelled,
    write,
)

# Not ours: PEFT warns of layers that it cannot checkpoint
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")


def deltas(base: Base, source: Path) -> dict[str, Tensor]:
    """The change of each layer by a file, as the studio itself reads it, float64."""
    loaded = load_concept(base, import_concept(base, source, {}))
    with torch.no_grad():
        return {name: m.delta(loaded.sites[name].weight).double() for name, m in loaded.modules.items()}


def norm(changes: dict[str, Tensor]) -> float:
    return float(sum(change.square().sum() for change in changes.values()) ** 0.5)


def distance(base: Base, source: Path, resized: Path) -> float:
    """The relative error of a resized file, measured on the layers' changes."""
    before, after = deltas(base, source), deltas(base, resized)
    assert before.keys() == after.keys()
    return norm({name: after[name] - before[name] for name in before}) / norm(before)


def kept_by(base: Base, source: Path, rank: int) -> float:
    """The relative error of the nearest layers of this rank, by their dense changes' singular values."""
    values = [torch.linalg.svdvals(change) for change in deltas(base, source).values()]
    lost, whole = (sum(float(s[first:].square().sum()) for s in values) for first in (rank, 0))
    return (lost / whole) ** 0.5


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("rank", [1, 3])
def test_each_layer_is_the_nearest_of_its_rank(base: Base, tmp_path: Path, name: str, rank: int):
    source = write(tmp_path, LAYOUTS[name]())
    made = resize_lora(source, tmp_path / "small.safetensors", RankChoice(rank))
    assert {*made.former.values()} == {4}
    assert {*made.ranks.values()} == {rank}
    assert made.error == pytest.approx(kept_by(base, source, rank), rel=1e-4)
    assert made.error == pytest.approx(distance(base, source, made.path), rel=1e-4)
    assert made.energy == pytest.approx(1 - made.error**2, rel=1e-4)
    assert load_file(made.path).keys() == load_file(source).keys()
    alphas = [tensor for key, tensor in load_file(made.path).items() if key.endswith("alpha")]
    assert all(float(alpha) == 2 for alpha in alphas)


@pytest.mark.parametrize("rank", [4, 9, None])
def test_the_same_or_a_higher_rank_loses_nothing(tmp_path: Path, rank: int | None):
    source = write(tmp_path, kohya(), {"any": "entry"})
    made = resize_lora(source, tmp_path / "same.safetensors", RankChoice(rank))
    before, after = load_file(source), load_file(made.path)
    assert all(torch.equal(before[key], after[key]) for key in {*before, *after})
    assert (made.error, made.rank) == (0, 4)
    assert made.energy == pytest.approx(1)
    assert read_tensors(made.path)[1] == {"any": "entry"}


@pytest.mark.parametrize(
    ("method", "parameter", "power"), [("sv_fro", 0.9, 2), ("sv_fro", 0.75, 2), ("sv_cumulative", 0.8, 1)]
)
def test_a_layer_keeps_its_share_with_the_smallest_rank(
    base: Base, tmp_path: Path, method: str, parameter: float, power: int
):
    tensors = kohya()
    tensors[f"{flat(CONV)}.lora_up.weight"][:, 1:] *= 0.1
    source = write(tmp_path, tensors)
    made = resize_lora(source, tmp_path / "small.safetensors", RankChoice(None, method, parameter))
    target = parameter**power
    for path in SHAPES:
        name = f"{'text_encoder' if 'encoder' in path else 'unet'}.{path}"
        s = torch.linalg.svdvals(deltas(base, source)[name]) ** power
        rank = made.ranks[flat(path)]
        assert s[:rank].sum() / s.sum() >= target > s[: rank - 1].sum() / s.sum()
    assert len({*made.ranks.values()}) > 1
    assert made.error == pytest.approx(distance(base, source, made.path), rel=1e-4)


def test_the_ratio_keeps_the_values_above_it_and_the_rank_limits_it():
    values = torch.tensor([8.0, 4.0, 2.0, 1.0])
    assert RankChoice(None, "sv_ratio", 3).of(values) == 2
    assert RankChoice(None, "sv_ratio", 100).of(values) == 4
    assert RankChoice(3, "sv_ratio", 100).of(values) == 3
    assert RankChoice(None, "sv_ratio", 1).of(values) == 1
    assert RankChoice(2, conv_rank=1).of(values, (3, 3)) == 1
    assert RankChoice(2, conv_rank=1).of(values, (1, 1)) == 2
    assert RankChoice(None, "sv_fro", 0.5).of(torch.zeros(3)) == 1


def test_convolutions_may_have_a_rank_of_their_own(tmp_path: Path):
    metadata = {"ss_network_dim": "4", "ss_network_args": '{"conv_dim": 4, "algo": "lora"}'}
    source = write(tmp_path, kohya(), metadata)
    made = resize_lora(source, tmp_path / "small.safetensors", RankChoice(3, conv_rank=2))
    assert {module: rank for module, rank in made.ranks.items() if rank != 3} == {flat(CONV): 2}
    assert json.loads(read_tensors(made.path)[1]["ss_network_args"]) == {"conv_dim": 2, "algo": "lora"}


def test_a_tucker_convolution_becomes_a_plain_one(base: Base, tmp_path: Path):
    name = flat(CONV)
    source = write(tmp_path, {
        f"{name}.lora_up.weight": random(32, 4, 1, 1), f"{name}.lora_mid.weight": random(4, 3, 3, 3, seed=1),
        f"{name}.lora_down.weight": random(3, 32, 1, 1, seed=2), f"{name}.alpha": torch.tensor(2.0),
    })  # fmt: skip
    made = resize_lora(source, tmp_path / "small.safetensors", RankChoice(3))
    assert load_file(made.path)[f"{name}.lora_down.weight"].shape == (3, 32, 3, 3)
    assert f"{name}.lora_mid.weight" not in load_file(made.path)
    assert made.error == pytest.approx(distance(base, source, made.path), rel=1e-4)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_the_dtype_of_the_file_stays_and_its_rounding_counts(base: Base, tmp_path: Path, stored: torch.dtype):
    source = write(tmp_path, {key: tensor.to(stored) for key, tensor in kohya().items()})
    made = resize_lora(source, tmp_path / "small.safetensors", RankChoice(2))
    assert {tensor.dtype for tensor in load_file(made.path).values()} == {stored}
    assert made.error == pytest.approx(distance(base, source, made.path), rel=1e-4)
    assert made.error > kept_by(base, source, 2)
    wide = resize_lora(source, tmp_path / "wide.safetensors", RankChoice(2), "float32")
    assert load_file(wide.path)[f"{FLAT}.lora_up.weight"].dtype == torch.float32
    assert wide.error == pytest.approx(kept_by(base, source, 2), rel=1e-4)


def test_other_tensors_and_magnitudes_are_kept(base: Base, tmp_path: Path):
    others = {
        f"{flat(NORM)}.diff": random(32), f"{FLAT}.diff_b": random(32), "bundle_emb.dog.emb_params": random(2, 32),
        "ui_note": torch.ones(3),
    }  # fmt: skip
    source = write(tmp_path, {**kohya(QUERY), f"{FLAT}.dora_scale": 1 + random(32, 1), **others})
    made = resize_lora(source, tmp_path / "small.safetensors", RankChoice(2))
    before, after = load_file(source), load_file(made.path)
    assert (made.others, made.magnitudes) == (4, 1)
    assert all(torch.equal(before[key], after[key]) for key in [*others, f"{FLAT}.dora_scale"])
    with pytest.raises(StudioError, match="ui_note"):
        import_concept(base, made.path, {})


def test_a_layer_whose_alpha_is_zero_still_changes_nothing(base: Base, tmp_path: Path):
    tensors = kohya(QUERY, CONV) | {f"{FLAT}.alpha": torch.tensor(0.0)}
    source = write(tmp_path, tensors)
    made = resize_lora(source, tmp_path / "small.safetensors", RankChoice(2))
    assert not deltas(base, made.path)[f"unet.{QUERY}"].any()
    assert made.error == pytest.approx(distance(base, source, made.path), rel=1e-4)


METADATA = {
    "entries": ({"rank": "4", "lora_alpha": "2"}, {"rank": "2", "lora_alpha": "2"}),
    "diffusers": (
        {"lora_adapter_metadata": '{"unet.r": 4, "unet.lora_alpha": 2}'},
        {"lora_adapter_metadata": {"unet.r": 2, "unet.lora_alpha": 2, "unet.rank_pattern": {}}},
    ),
    "rsLoRA": (
        {"lora_adapter_metadata": '{"r": 4, "lora_alpha": 2, "use_rslora": true}'},
        {"lora_adapter_metadata": {"r": 2, "lora_alpha": 2, "use_rslora": True, "rank_pattern": {}}},
    ),
}


@pytest.mark.parametrize("name", METADATA)
def test_ranks_in_the_metadata_follow(base: Base, tmp_path: Path, name: str):
    given, wanted = METADATA[name]
    source = write(tmp_path, spelled({QUERY: f"unet.{QUERY}", CONV: f"unet.{CONV}"}, A_B, None), given)
    made = resize_lora(source, tmp_path / "small.safetensors", RankChoice(2))
    found: dict[str, Any] = dict(read_tensors(made.path)[1])
    if "lora_adapter_metadata" in found:
        found["lora_adapter_metadata"] = json.loads(found["lora_adapter_metadata"])
    assert found == wanted
    assert made.error == pytest.approx(distance(base, source, made.path), rel=1e-4)


@pytest.mark.parametrize("name", METADATA)
def test_different_ranks_in_the_metadata_follow(base: Base, tmp_path: Path, name: str):
    source = write(tmp_path, spelled({QUERY: f"unet.{QUERY}", CONV: f"unet.{CONV}"}, A_B, None), METADATA[name][0])
    made = resize_lora(source, tmp_path / "small.safetensors", RankChoice(3, conv_rank=1))
    assert {*made.ranks.values()} == {1, 3}
    assert "rank" not in read_tensors(made.path)[1]
    assert made.error == pytest.approx(distance(base, source, made.path), rel=1e-4)


def test_sd_scripts_metadata_follow(tmp_path: Path):
    given = {"ss_network_dim": "4", "ss_network_alpha": "2.0", "sshs_model_hash": "old", "modelspec.title": "rex"}
    source = write(tmp_path, kohya(), given)
    made = resize_lora(source, tmp_path / "small.safetensors", RankChoice(2))
    metadata, data = read_tensors(made.path)[1], made.path.read_bytes()
    content = data[8 + int.from_bytes(data[:8], "little") :]
    assert metadata["ss_network_dim"] == "2"
    assert metadata["ss_network_alpha"] == "2.0"
    assert metadata["ss_training_comment"] == "dimension is resized from 4 to 2; "
    assert metadata["sshs_model_hash"] == hashlib.sha256(content).hexdigest()
    assert metadata["modelspec.title"] == "rex"
    dynamic = resize_lora(source, tmp_path / "dynamic.safetensors", RankChoice(None, "sv_fro", 0.9))
    assert read_tensors(dynamic.path)[1]["ss_network_dim"] == "Dynamic"


@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
@pytest.mark.parametrize("ranks", [RankChoice(3), RankChoice(None, "sv_fro", 0.9)], ids=["rank", "dynamic"])
def test_diffusers_generates_what_we_do(
    base: Base, pipeline: StableDiffusionPipeline, tmp_path: Path, layout: str, ranks: RankChoice, random_concept,
    our_picture, their_picture,
):  # fmt: skip
    whole = export(base, {"rex": random_concept(base, "lora", rank=8)}, layout, tmp_path / "rex.safetensors")
    made = resize_lora(whole.path, tmp_path / "small.safetensors", ranks)
    ours = our_picture(base, {"rex": import_concept(base, made.path, {})})
    plain = their_picture(pipeline)
    pipeline.load_lora_weights(str(tmp_path), weight_name=made.path.name)
    assert np.abs(ours - their_picture(pipeline)).max() < 1e-3 < np.abs(ours - plain).max()


@pytest.mark.parametrize("ranks", [RankChoice(3), RankChoice(None, "sv_fro", 0.9)], ids=["rank", "dynamic"])
def test_a_folder_of_peft(
    base: Base, pipeline: StableDiffusionPipeline, tmp_path: Path, ranks: RankChoice, random_concept, our_picture,
    their_picture,
):  # fmt: skip
    whole = export(base, {"rex": random_concept(base, "lora", rank=8)}, "peft", tmp_path / "rex")
    made = resize_lora(whole.path, tmp_path / "small", ranks)
    assert {*made.former.values()} == {8}
    assert made.error == pytest.approx(distance(base, whole.path, made.path), rel=1e-4)
    ours = our_picture(base, {"rex": import_concept(base, made.path, {})})
    pipeline.unet = PeftModel.from_pretrained(pipeline.unet, made.path / "unet")
    pipeline.text_encoder = PeftModel.from_pretrained(pipeline.text_encoder, made.path / "text_encoder")
    assert np.abs(ours - their_picture(pipeline)).max() < 1e-3


REFUSED: dict[str, tuple[Callable[[], dict[str, Tensor]], str]] = {
    "LoHa": (lambda: {f"{FLAT}.hada_w1_a": random(32, 4)}, "has LoHa layers"),
    "LoKr": (lambda: {**kohya(QUERY), f"{flat(CONV)}.lokr_w1": random(4, 4)}, "has LoKr layers"),
    "OFT": (lambda: {f"{FLAT}.oft_blocks": random(4, 8, 8)}, "has OFT layers"),
    "(IA)³": (lambda: {f"{FLAT}.weight": random(32), f"{FLAT}.on_input": torch.tensor(1)}, r"has \(IA\)³ layers"),
    "embedding LoRA": (lambda: {**kohya(QUERY), "x.lora_embedding_A": random(4, 4)}, "has embedding layers"),
    "nothing": (lambda: {f"{FLAT}.diff": random(32, 32)}, "has no LoRA layers"),
    "checkpoint": (lambda: {"model.diffusion_model.out.2.weight": random(4, 4)}, "is a checkpoint"),
    "embedding": (lambda: {"emb_params": random(1, 32)}, "is a textual inversion"),
    "up alone": (lambda: {f"{FLAT}.lora_up.weight": random(32, 4)}, "lacks its lora tensor down"),
    "ranks differ": (lambda: kohya(QUERY) | {f"{FLAT}.lora_up.weight": random(32, 3)}, "inconsistent shapes"),
    "two alphas": (lambda: kohya(QUERY) | {f"{FLAT}.alpha": torch.ones(2)}, "not one number"),
    "twice": (lambda: kohya(QUERY) | {f"{FLAT}.lora_A.weight": random(4, 32)}, "twice"),
    "NaN": (lambda: kohya(QUERY) | {f"{FLAT}.lora_up.weight": torch.full((32, 4), torch.nan)}, "NaN"),
    "part of PEFT's folder": (lambda: {"base_model.model.x.lora_A.weight": random(4, 4)}, "part of a PEFT folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing(tmp_path: Path, name: str):
    make, message = REFUSED[name]
    source = write(tmp_path, make())
    with pytest.raises(StudioError, match=message):
        resize_lora(source, tmp_path / "small.safetensors", RankChoice(2))
    assert [path.name for path in tmp_path.iterdir()] == ["rex.safetensors"]


def test_values_too_large_for_the_dtype_are_refused(tmp_path: Path):
    source = write(tmp_path, {key: 1e6 * tensor for key, tensor in kohya(QUERY).items()})
    with pytest.raises(StudioError, match="too large for float16"):
        resize_lora(source, tmp_path / "small.safetensors", RankChoice(2), "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["rex.safetensors"]


def test_no_file_is_overwritten_and_names_are_checked(tmp_path: Path):
    source = write(tmp_path, kohya(QUERY))
    for output, message in [
        (source, "already exists"),
        (tmp_path / "x.bin", "does not end in"),
        (tmp_path / "no" / "x.safetensors", "does not exist"),
    ]:
        with pytest.raises(StudioError, match=message):
            resize_lora(source, output, RankChoice(2))
    with pytest.raises(StudioError, match="cannot be opened"):
        resize_lora(tmp_path / "none.safetensors", tmp_path / "x.safetensors", RankChoice(2))
    (tmp_path / "peft").mkdir()
    folder = peft_folder(tmp_path / "peft", {f"{QUERY}.hada_w1_a": random(32, 4)}, peft_type="LOHA")
    with pytest.raises(StudioError, match="LOHA"):
        resize_lora(folder, tmp_path / "small", RankChoice(2))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudioError, match=r"adapter_config\.json"):
        resize_lora(tmp_path / "empty", tmp_path / "small", RankChoice(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "peft", "rex.safetensors"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "too low"),
        ({"conv_rank": 0}, "too low"),
        ({"method": "sv_none", "parameter": 1}, "no --dynamic-method"),
        ({"parameter": 0.9}, "belongs to a --dynamic-method"),
        ({"method": "sv_fro"}, "needs a --dynamic-param above 0"),
        ({"method": "sv_fro", "parameter": 1.1}, "needs a --dynamic-param above 0"),
        ({"method": "sv_cumulative", "parameter": 0}, "needs a --dynamic-param above 0"),
        ({"method": "sv_ratio", "parameter": 0.5}, "of 1 or more"),
        ({"method": "sv_ratio", "parameter": float("nan")}, "of 1 or more"),
    ],
)
def test_invalid_choices_of_a_rank(options: dict[str, Any], message: str):
    with pytest.raises(StudioError, match=message):
        RankChoice(**options)
