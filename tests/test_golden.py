"""What is written for others, against the files in tests/data/golden; the README there says how to write them anew."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from studio.adapters.concept_file import TrainedConcept, from_bytes, to_bytes
from studio.formats.exporting import export
from studio.formats.kohya import kohya_bytes
from studio.formats.safetensors_bytes import safetensors_bytes
from studio.formats.textual_inversion import token_bytes
from studio.models.base_model import Base, load_base
from studio.models.families import SD15
from training.reporting.html_report import Section, as_csv, report_html, table

GOLDEN = Path(__file__).parent / "data" / "golden"
WRITE = os.environ.get("STUDIO_WRITE_GOLDEN") == "1"
VARYING = {"concept_studio", "sshs_model_hash", "sshs_legacy_hash"}
"""Metadata whose values follow from the base's random weights or its folder."""
PEFT_OPTIONS = (
    "peft_type", "r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "lora_bias", "bias",
    "inference_mode",
)  # fmt: skip
"""What is set by us; the others are PEFT's, and change with it."""


def check(name: str, data: bytes) -> None:
    file = GOLDEN / name
    if WRITE:
        file.write_bytes(data)
    assert file.read_bytes() == data, f"{name} is no longer what is written: see {GOLDEN / 'README.md'}."


def numbers(*shape: int) -> Tensor:
    """Counted from 0 in steps of 1/8, which every dtype holds exactly."""
    return torch.arange(torch.Size(shape).numel()).view(shape) / 8


def concept() -> TrainedConcept:
    return TrainedConcept(
        base="abc",
        adapter="lora",
        config={"rank": 2, "alpha": None},
        adapters={
            "unet.first": {"down": numbers(2, 3), "up": numbers(4, 2)},
            "unet.second": {"down": numbers(2, 3) + 1, "up": numbers(4, 2) + 1},
            "unet.wide": {"down": numbers(2, 5), "up": numbers(1, 2)},
        },
        tokens={"<rex>": {"text_encoder": numbers(2, 4)}},
        metadata={"name": "rex", "class_word": "dog"},
    )


def test_a_concept_file():
    check("concept.safetensors", to_bytes(concept()))
    check("concept-float16.safetensors", to_bytes(concept(), torch.float16))


def test_a_concept_file_is_read():
    read, written = from_bytes((GOLDEN / "concept.safetensors").read_bytes(), "golden"), concept()
    assert replace(read, adapters={}, tokens={}) == replace(written, adapters={}, tokens={})
    for site, state in written.adapters.items():
        assert state.keys() == read.adapters[site].keys()
        assert all(torch.equal(tensor, read.adapters[site][name]) for name, tensor in state.items())
    assert torch.equal(read.tokens["<rex>"]["text_encoder"], numbers(2, 4))


def test_a_kohya_file_with_its_hashes():
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {
        f"{key}.lora_down.weight": numbers(2, 3),
        f"{key}.lora_up.weight": numbers(4, 2),
        f"{key}.alpha": torch.tensor(2.0),
    }
    metadata = {"modelspec.trigger_phrase": "<rex>"}
    check("kohya.safetensors", kohya_bytes(tensors, 2, SD15, "v_prediction", metadata))


@pytest.mark.parametrize("layout", ["a1111", "diffusers"])
def test_a_textual_inversion(layout: str):
    one, both = {"text_encoder": numbers(2, 4)}, {"text_encoder": numbers(2, 4), "text_encoder_2": numbers(2, 6)}
    check(f"token-{layout}.safetensors", token_bytes("<rex>", one, layout))
    check("token-xl.safetensors", token_bytes("<rex>", both, layout))
    check(
        f"token-{layout}.safetensors", token_bytes("<rex>", {"text_encoder": numbers(1, 2, 4).expand(3, 2, 4)}, layout)
    )


def test_the_metadata_of_a_file_is_in_alphabetical_order():
    check("metadata.safetensors", safetensors_bytes({"b": numbers(1), "a": numbers(2)}, {"z": "1", "é": "2", "a": "3"}))


@pytest.fixture
def bases(base: Base, xl_folder: Path) -> Mapping[str, Callable[[], Base]]:
    return {"sd": lambda: base, "sdxl": lambda: load_base(str(xl_folder), device="cpu")}


@pytest.mark.parametrize("layout", ["kohya", "diffusers", "peft"])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_the_keys_of_an_export(family: str, layout: str, bases, make_concept, tmp_path: Path):
    base = bases[family]()
    trained = make_concept(base, "rex", "lora")
    widths = {part: encoder.config.hidden_size for part, (_, encoder) in base.text_encoders.items()}
    trained = replace(trained, tokens={"<rex>": {part: numbers(1, width) for part, width in widths.items()}})
    output = tmp_path / ("rex" if layout == "peft" else "rex.safetensors")
    made = export(base, {"rex": trained}, layout, output)
    files = sorted(output.rglob("*.safetensors")) if layout == "peft" else [output]
    lines = [line for file in [*files, *made.tokens.values()] for line in described(file, tmp_path)]
    for config in sorted(output.rglob("adapter_config.json")):
        lines += [f"== {config.relative_to(tmp_path).as_posix()}", *options_of(config)]
    check(f"keys-{family}-{layout}.txt", "".join(f"{line}\n" for line in lines).encode())


def described(file: Path, folder: Path) -> list[str]:
    """A file's tensors, a line each, and its metadata."""
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata() or {}
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (it is no mapping)
    return [
        f"== {file.relative_to(folder).as_posix()}",
        *(f"{key} = {'...' if key in VARYING else metadata[key]}" for key in sorted(metadata)),
        *(f"{key} {str(t.dtype).removeprefix('torch.')} {list(t.shape)}" for key, t in sorted(tensors.items())),
    ]


def options_of(config: Path) -> list[str]:
    values: dict[str, Any] = json.loads(config.read_text())
    values["target_modules"] = sorted(values["target_modules"])
    return [f"{option} = {json.dumps(values[option], sort_keys=True)}" for option in PEFT_OPTIONS]


ROWS = [
    {"concept": "rex & <milo>", "image_alignment": 0.123456, "images": 16},
    {"concept": "b", "image_alignment": -1.0},
]


def test_a_report_as_html():
    sections = [
        Section(
            'A "quoted" <heading>', "Text & more.", [Image.new("RGB", (2, 2), "teal"), Image.new("L", (1, 1))], ROWS
        ),
        Section("Nothing but text", "As it is."),
    ]
    html = report_html("A report: <rex>", sections)
    # How a picture is packed is Pillow's and zlib's
    html, packed = re.subn(r"data:image/png;base64,[A-Za-z0-9+/=]+", "data:image/png;base64,PICTURE", html)
    assert packed == 2
    check("report.html", html.encode())


def test_tables_of_a_report():
    check("table.md", table(["concept", "score"], [["rex", "0.12"], ["milo", "—"]]).encode())
    check(
        "table.csv",
        as_csv([{"concept": 'rex, "the" dog', "score": 0.125}, {"concept": "milo", "score": None}]).encode(),
    )
