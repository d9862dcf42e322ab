"""Files that cannot be read are refused with a sentence that says what is wrong."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from concepts.errors import StudioError
from studio.formats.exporting import export
from studio.formats.importing import import_concept
from studio.formats.textual_inversion import read_token, token_bytes
from studio.models.base_model import Base


@pytest.fixture
def files(base: Base, tmp_path: Path, random_concept: Callable) -> dict[str, Path]:
    """A LoRA in each layout."""
    concept = random_concept(base, "lora")
    paths = {layout: tmp_path / f"{layout}.safetensors" for layout in ("kohya", "diffusers")}
    for layout, path in paths.items():
        export(base, {"rex": concept}, layout, path)
    export(base, {"rex": concept}, "peft", tmp_path / "peft")
    return {**paths, "peft": tmp_path / "peft"}


def refused(base: Base, path: Path, sentence: str) -> None:
    with pytest.raises(StudioError, match=sentence):
        import_concept(base, path, {})


def rewritten(path: Path, change: Callable[[dict[str, Tensor]], None], metadata: dict[str, str] | None = None) -> Path:
    tensors = load_file(path)
    change(tensors)
    other = path.with_name(f"changed-{path.name}")
    save_file(tensors, other, metadata)
    return other


@pytest.mark.parametrize("name", ["rex.pt", "rex.safetensors"])
def test_a_pickle(base: Base, tmp_path: Path, name: str):
    torch.save({"lora_unet": torch.zeros(1)}, tmp_path / name)
    refused(base, tmp_path / name, "pickle file, which can run any code")
    (tmp_path / name).write_bytes(pickle.dumps({"a": 1}))
    refused(base, tmp_path / name, "pickle file, which can run any code")


def test_a_header_whose_length_begins_as_a_pickle(base: Base, files: dict[str, Path]):
    content = files["kohya"].read_bytes()
    header = int.from_bytes(content[:8], "little")
    for start in (0x280, 0x480, 0x580):  # "\x80\x02", "\x80\x04" and "\x80\x05"
        length = start + 0x10000 * (1 + header // 0x10000)
        padded = length.to_bytes(8, "little") + content[8 : 8 + header].ljust(length) + content[8 + header :]
        files["kohya"].write_bytes(padded)
        assert import_concept(base, files["kohya"], {}).adapters


@pytest.mark.parametrize("length", [0, 4, 200, 5000])
def test_a_truncated_file(base: Base, files: dict[str, Path], length: int):
    path = files["kohya"]
    path.write_bytes(path.read_bytes()[:length])
    refused(base, path, "truncated, or not a safetensors file")


def test_a_file_that_is_not_there(base: Base, tmp_path: Path):
    refused(base, tmp_path / "none.safetensors", "cannot be opened")
    refused(base, tmp_path, re.escape("has no adapter_config.json"))


@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
def test_wrong_shapes(base: Base, files: dict[str, Path], layout: str):
    key = next(key for key in load_file(files[layout]) if re.search(r"to_k\.lora_(down|A)", key))

    def widen(tensors: dict[str, Tensor]) -> None:
        tensors[key] = torch.zeros(4, 99)

    refused(base, rewritten(files[layout], widen), "whose weight is 32 x 32, it changes a weight of 32 x 99")

    def other_rank(tensors: dict[str, Tensor]) -> None:
        tensors[key] = torch.zeros(5, 32)

    refused(base, rewritten(files[layout], other_rank), "have inconsistent shapes")


@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
@pytest.mark.parametrize("role", ["up", "down"])
def test_missing_keys(base: Base, files: dict[str, Path], layout: str, role: str):
    ending = {
        "kohya": {"up": "lora_up.weight", "down": "lora_down.weight"},
        "diffusers": {"up": "B.weight", "down": "A.weight"},
    }

    def drop(tensors: dict[str, Tensor]) -> None:
        del tensors[next(key for key in tensors if key.endswith(ending[layout][role]))]

    refused(base, rewritten(files[layout], drop), f"lacks its lora tensor {role}")


def test_surplus_keys(base: Base, files: dict[str, Path]):
    module = next(key for key in load_file(files["kohya"])).partition(".")[0]
    for key, sentence in (
        ("lora_unet_nowhere.lora_up.weight", "unknown layout, its keys look like .lora_unet_nowhere"),
        (f"{module}.lora_what", "The adapter type of .* is not supported"),
        (f"{module}.hada_w1_a", "lacks its loha tensor w1_b"),
        ("first_stage_model.weight", "unknown layout, its keys look like .first_stage_model"),
    ):
        refused(base, rewritten(files["kohya"], lambda t, key=key: t.update({key: torch.zeros(4, 4)})), sentence)
    odd = rewritten(files["diffusers"], lambda t: t.update({"unet.nowhere.lora_A.weight": torch.zeros(4, 4)}))
    refused(base, odd, "unknown layout, its keys look like .unet.nowhere")


def test_numbers_that_are_none(base: Base, files: dict[str, Path]):
    def spoil(tensors: dict[str, Tensor]) -> None:
        next(iter(tensors.values())).fill_(float("nan"))

    refused(base, rewritten(files["diffusers"], spoil), "has NaN or infinite values")


def test_another_base(base: Base, files: dict[str, Path]):
    origin = {"concept_studio": json.dumps({"base": "0123456789abcdef", "base_name": "other"})}
    refused(
        base,
        rewritten(files["kohya"], lambda t: None, origin),
        "exported from the base other with the fingerprint 0123456789abcdef",
    )


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "Stable Diffusion XL"),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "Stable Diffusion 1.x"),
    ],
)
def test_another_family_by_its_metadata(base: Base, files: dict[str, Path], metadata: dict, named: str, monkeypatch):
    from studio.formats import importing
    from studio.models import families

    monkeypatch.setattr(importing, "family_of", lambda parts: families.SD21)
    refused(base, rewritten(files["kohya"], lambda t: None, metadata), f"The file is for {named}")


def test_another_family_by_its_layers(base: Base, files: dict[str, Path]):
    key = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight"
    more = rewritten(files["kohya"], lambda t: t.update({key: torch.zeros(4, 4)}))
    refused(base, more, "The file is for Stable Diffusion XL")


def test_a_peft_folder_of_another_method(base: Base, files: dict[str, Path]):
    config = files["peft"] / "unet" / "adapter_config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "peft_type": "VERA"}))
    refused(base, files["peft"], "The PEFT type VERA of .* is not supported")
    config.write_text("[")
    refused(base, files["peft"], "not JSON")


def test_a_peft_file_without_its_folder(base: Base, files: dict[str, Path], tmp_path: Path):
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((files["peft"] / "unet" / "adapter_model.safetensors").read_bytes())
    refused(base, alone, "is a part of a PEFT folder")


def encoders(**widths: int) -> dict[str, Any]:
    """Text encoders of these widths, of which only the sizes matter."""
    sizes = {part: SimpleNamespace(config=SimpleNamespace(hidden_size=width)) for part, width in widths.items()}
    return {part: (SimpleNamespace(model_max_length=77), encoder) for part, encoder in sizes.items()}


def test_tokens(tmp_path: Path):
    file = tmp_path / "rex.tokens.safetensors"
    one, two = encoders(text_encoder=8), encoders(text_encoder=8, text_encoder_2=12)
    vectors = {"text_encoder": torch.randn(2, 8)}
    for layout in ("a1111", "diffusers"):
        file.write_bytes(token_bytes("<rex>", vectors, layout))
        assert torch.equal(read_token(file, one).vectors["text_encoder"], vectors["text_encoder"])
    with pytest.raises(StudioError, match="vectors of width 8, and this base needs 16"):
        read_token(file, encoders(text_encoder=16))
    both = {**vectors, "text_encoder_2": torch.randn(2, 12)}
    file.write_bytes(token_bytes("<rex>", both, "a1111"))
    assert read_token(file, two).vectors.keys() == both.keys()
    first = read_token(file, one)
    assert torch.equal(first.vectors["text_encoder"], vectors["text_encoder"])
    assert "'clip_g' of the textual inversion rex.tokens.safetensors is not used" in first.notes[0]
    file.write_bytes(token_bytes("<rex>", vectors, "a1111"))
    with pytest.raises(StudioError, match="this base needs 8 and 12"):
        read_token(file, two)
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, file)
    with pytest.raises(StudioError, match="has 2 tensors"):
        read_token(file, one)
