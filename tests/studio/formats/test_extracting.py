"""A LoRA from two checkpoints: what it gives back, what is said of it, and what is refused."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.composition.loaded_concept import load_concept
from studio.formats.exporting import EVERY_MATRIX, export
from studio.formats.extracting import extract_lora
from studio.formats.full_checkpoint import single_file_bytes
from studio.formats.importing import import_concept
from studio.formats.safe_reading import read_tensors
from studio.layers.rank_choice import RankChoice
from studio.models.base_model import Base, load_base
from tests.studio.formats.foreign_files import flat, kohya, write
from tests.tiny_models import write_tiny, write_whole_file

# Not ours: PEFT warns of layers that it cannot checkpoint
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")

WHOLE = RankChoice(None)


@torch.no_grad()
def tune(base: Base, size: float = 0.05, kinds: tuple[str, ...] = ("linear", "convolution")) -> dict[str, Tensor]:
    """Changes the base's weights of these kinds by random numbers; the changes (out, in), float64."""
    generator, changes = torch.Generator().manual_seed(0), {}
    for name, site in base.sites_of(kinds).items():
        before = site.weight.double()
        site.module.weight.add_(size * torch.randn(site.module.weight.shape, generator=generator))
        changes[name] = site.weight.double() - before
    return changes


@pytest.fixture
def tuned(base: Base, tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A folder with the tiny base after a change of every matrix, and the changes."""
    changed = deepcopy(base)
    changes = tune(changed)
    changed.pipeline.save_pretrained(tmp_path / "tuned")
    return tmp_path / "tuned", changes


def error_of(base: Base, file: Path, changes: dict[str, Tensor]) -> float:
    """The relative error of a file, as the studio reads it, measured on the layers' changes."""
    loaded = load_concept(base, import_concept(base, file, {}))
    with torch.no_grad():
        found = {name: m.delta(loaded.sites[name].weight).double() for name, m in loaded.modules.items()}
    assert found.keys() <= changes.keys()
    lost = sum(float((change - found.get(name, 0)).square().sum()) for name, change in changes.items())
    return (lost / sum(float(change.square().sum()) for change in changes.values())) ** 0.5


@pytest.mark.parametrize("layout", ["kohya", "diffusers", "peft"])
def test_the_whole_rank_gives_the_tuned_weights_back(base: Base, tiny_folder: Path, tuned, tmp_path: Path, layout: str):
    folder, changes = tuned
    output = tmp_path / ("lora" if layout == "peft" else "lora.safetensors")
    made = extract_lora(str(tiny_folder), str(folder), output, WHOLE, layout)
    assert made.lost == {}
    assert {name: min(change.shape) for name, change in changes.items()} == made.ranks
    assert error_of(base, output, changes) < 1e-5
    assert made.error < 1e-6


@pytest.mark.parametrize("ranks", [RankChoice(3), RankChoice(5, conv_rank=2), RankChoice(None, "sv_fro", 0.9)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_error_is_that_of_the_nearest_lora(
    base: Base, tiny_folder: Path, tuned, tmp_path: Path, ranks: RankChoice, dtype: str
):
    folder, changes = tuned
    made = extract_lora(str(tiny_folder), str(folder), tmp_path / "lora.safetensors", ranks, dtype=dtype)
    lost = whole = 0.0
    for name, change in changes.items():
        s = torch.linalg.svdvals(change).square()
        rank = made.ranks[name]
        lost, whole = lost + float(s[rank:].sum()), whole + float(s.sum())
        if ranks.method:
            assert s[:rank].sum() / s.sum() >= 0.81 > s[: rank - 1].sum() / s.sum()
        else:
            kernel = any(side > 1 for side in base.sites_of(EVERY_MATRIX)[name].module.weight.shape[2:])
            wanted = ranks.conv_rank or ranks.rank if kernel else ranks.rank
            assert wanted is not None
            assert rank == min(wanted, len(s))
    assert made.error == pytest.approx((lost / whole) ** 0.5, rel=1e-5 if dtype == "float32" else 1e-3)
    measured = error_of(base, tmp_path / "lora.safetensors", changes)
    assert made.error == pytest.approx(measured, rel=1e-5 if dtype == "float32" else 1e-3)


@pytest.mark.parametrize("layout", ["kohya", "diffusers", "peft"])
def test_diffusers_generates_what_the_tuned_checkpoint_does(
    base: Base, tiny_folder: Path, tuned, pipeline: StableDiffusionPipeline, tmp_path: Path, layout: str, their_picture
):
    folder, _ = tuned
    output = tmp_path / ("lora" if layout == "peft" else "lora.safetensors")
    extract_lora(str(tiny_folder), str(folder), output, WHOLE, layout)
    wanted = their_picture(StableDiffusionPipeline.from_pretrained(folder, safety_checker=None))
    plain = their_picture(pipeline)
    if layout == "peft":
        pipeline.unet = PeftModel.from_pretrained(pipeline.unet, output / "unet")
        pipeline.text_encoder = PeftModel.from_pretrained(pipeline.text_encoder, output / "text_encoder")
    else:
        pipeline.load_lora_weights(str(tmp_path), weight_name=output.name)
    assert np.abs(wanted - their_picture(pipeline)).max() < 1e-3 < np.abs(wanted - plain).max()


def test_a_lora_that_was_merged_comes_back(base: Base, tiny_folder: Path, tmp_path: Path, random_concept: Callable):
    concepts = {"rex": random_concept(base, "lora", size=0.3)}
    export(base, concepts, "full", tmp_path / "merged")
    original = export(base, concepts, "kohya", tmp_path / "original.safetensors")
    made = extract_lora(str(tiny_folder), str(tmp_path / "merged"), tmp_path / "lora.safetensors")
    before, after = load_file(original.path), load_file(made.path)
    assert before.keys() == after.keys()
    assert {key: tensor.shape for key, tensor in before.items()} == {key: t.shape for key, t in after.items()}
    assert made.error < 1e-5
    metadata, theirs = read_tensors(made.path)[1], read_tensors(original.path)[1]
    assert json.loads(metadata.pop("concept_studio")) == {"base_name": tiny_folder.name, "tuned_name": "merged"}
    assert metadata.keys() == theirs.keys() - {"concept_studio", "modelspec.trigger_phrase"}
    assert all(metadata[key] == theirs[key] for key in metadata if not key.startswith("sshs_"))


def test_single_files_give_the_same_as_folders(base: Base, tiny_folder: Path, tuned, tmp_path: Path):
    folder, _ = tuned
    first = write_whole_file(tmp_path, base, tiny_folder)
    changed = load_base(str(folder), device="cpu")
    (tmp_path / "other").mkdir()
    second = write_whole_file(tmp_path / "other", changed, folder)
    made = extract_lora(str(first), str(second), tmp_path / "files.safetensors")
    wanted = extract_lora(str(tiny_folder), str(folder), tmp_path / "folders.safetensors")
    before, after = load_file(wanted.path), load_file(made.path)
    assert all(torch.equal(before[key], after[key]) for key in {*before, *after})
    assert read_tensors(made.path)[1]["modelspec.prediction_type"] == "v"


@pytest.mark.parametrize("single", [False, True], ids=["folders", "files"])
def test_sdxl(xl_folder: Path, tmp_path: Path, single: bool):
    changed = load_base(str(xl_folder), device="cpu")
    changes = tune(changed)
    changed.pipeline.save_pretrained(tmp_path / "tuned")
    sources = [xl_folder, tmp_path / "tuned"]
    if single:
        bases = [load_base(str(xl_folder), device="cpu"), changed]
        for index, (each, name) in enumerate(zip(bases, ("first", "second"), strict=True)):
            (tmp_path / f"{name}.safetensors").write_bytes(single_file_bytes(each, None))
            (tmp_path / name).symlink_to(sources[index])
            sources[index] = tmp_path / f"{name}.safetensors"
    base = load_base(str(xl_folder), device="cpu")
    made = extract_lora(str(sources[0]), str(sources[1]), tmp_path / "lora.safetensors", WHOLE)
    del changes["text_encoder_2.text_projection"]
    assert made.ranks.keys() == changes.keys()
    assert made.lost == {"text projections": 1}
    assert error_of(base, made.path, changes) < 1e-5
    pipeline = StableDiffusionXLPipeline.from_pretrained(xl_folder)
    pipeline.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    pipeline.fuse_lora()
    for name, part in {"unet": pipeline.unet, "text_encoder_2": pipeline.text_encoder_2}.items():
        ours = changed.parts[name].state_dict()
        theirs = {key.replace(".base_layer", ""): t for key, t in part.state_dict().items() if ".lora_" not in key}
        equal = {key for key in ours if torch.allclose(theirs[key], ours[key], atol=1e-5)}
        assert ours.keys() - equal == ({"text_projection.weight"} if name == "text_encoder_2" else set())


def test_equal_layers_are_left_out_and_what_a_lora_cannot_store_is_counted(
    base: Base, tiny_folder: Path, tmp_path: Path
):
    parts = base.pipeline
    with torch.no_grad():
        parts.unet.mid_block.resnets[0].conv1.weight[0] += 1
        parts.unet.mid_block.resnets[0].conv1.bias += 1
        parts.unet.mid_block.resnets[0].norm1.weight += 1
        parts.unet.mid_block.resnets[0].norm1.bias += 1
        parts.text_encoder.get_input_embeddings().weight[0] += 1
        parts.vae.post_quant_conv.weight += 1
    parts.save_pretrained(tmp_path / "tuned")
    calls: list[tuple[int, int]] = []
    made = extract_lora(
        str(tiny_folder), str(tmp_path / "tuned"), tmp_path / "lora.safetensors",
        on_layer=lambda done, every: calls.append((done, every)),
    )  # fmt: skip
    name = flat("mid_block.resnets.0.conv1")
    assert made.ranks == {"unet.mid_block.resnets.0.conv1": 4}
    assert made.lost == {"biases": 1, "norms": 2, "embeddings": 1}
    assert {key.rpartition(name)[2] for key in load_file(made.path)} == {
        ".lora_up.weight", ".lora_down.weight", ".alpha",
    }  # fmt: skip
    assert calls[-1] == (len(calls), len(calls))
    assert len(calls) == len(base.sites_of(("linear", "convolution")))


def save_changed(base: Base, folder: Path, change: Callable[[Base], object]) -> str:
    with torch.no_grad():
        change(base)
    base.pipeline.save_pretrained(folder)
    return str(folder)


def without_safetensors(folder: Path) -> str:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    return str(folder)


def other_size(base: Base) -> None:
    encoder = base.pipeline.text_encoder
    encoder.encoder.layers = nn.ModuleList(encoder.encoder.layers[:1])
    encoder.config.num_hidden_layers = 1


Refusal = Callable[[Base, Path, Path], str]
REFUSED: dict[str, tuple[Refusal, str]] = {
    "equal": (lambda base, tmp, xl: save_changed(base, tmp / "t", lambda _: None), "no LoRA to extract. Give two"),
    "only norms": (
        lambda base, tmp, xl: save_changed(base, tmp / "t", lambda b: b.pipeline.unet.conv_norm_out.weight.add_(1)),
        "only changed norms, which a LoRA cannot store",
    ),
    "NaN": (
        lambda base, tmp, xl: save_changed(base, tmp / "t", lambda b: b.pipeline.unet.conv_out.weight.mul_(torch.nan)),
        "conv_out.weight of the unet in .* NaN or infinite",
    ),
    "another family": (lambda base, tmp, xl: str(xl), "Give two checkpoints of the same family"),
    "another size": (lambda base, tmp, xl: save_changed(base, tmp / "t", other_size), "different architectures"),
    "pickle": (lambda base, tmp, xl: without_safetensors(write_tiny(tmp / "t")), "unet in .* are a pickle"),
    "nothing": (lambda base, tmp, xl: str(tmp / "none"), "no checkpoint"),
    "LoRA": (lambda base, tmp, xl: str(write(tmp, kohya())), "is a LoRA, not a base"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("swapped", [False, True])
def test_what_is_refused_leaves_nothing(
    base: Base, tiny_folder: Path, xl_folder: Path, tmp_path: Path, name: str, swapped: bool
):
    make, message = REFUSED[name]
    one, other = str(tiny_folder), make(base, tmp_path, xl_folder)
    sources = (other, one) if swapped else (one, other)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StudioError, match=message):
        extract_lora(*sources, tmp_path / "lora.safetensors")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("output", "layout", "message"),
    [
        ("there.safetensors", "kohya", "already exists"),
        ("lora.bin", "kohya", r"does not end in \.safetensors"),
        ("lora.safetensors", "peft", "is a folder"),
        ("lora.safetensors", "lycoris", "no format 'lycoris'"),
        ("none/lora.safetensors", "kohya", "does not exist"),
    ],
)
def test_outputs_that_are_refused(tiny_folder: Path, tuned, tmp_path: Path, output: str, layout: str, message: str):
    (tmp_path / "there.safetensors").touch()
    with pytest.raises(StudioError, match=message):
        extract_lora(str(tiny_folder), str(tuned[0]), tmp_path / output, layout=layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.safetensors", "tuned"]
