"""Small files as other tools write them, for the tiny base: what each holds, and what becomes of it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from studio.composition.loaded_concept import load_concept
from studio.formats.importing import import_concept
from studio.models.base_model import Base

Tensors = dict[str, Tensor]
A = "down_blocks.1.attentions.0.transformer_blocks.0"
QUERY, KEY, FF = f"{A}.attn1.to_q", f"{A}.attn2.to_k", f"{A}.ff.net.2"
OUT = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV, NORM = "mid_block.resnets.0.conv1", "mid_block.resnets.0.norm1"
TEXT, FC1 = "encoder.layers.0.self_attn.q_proj", "encoder.layers.1.mlp.fc1"
SHAPES = {
    QUERY: (32, 32), KEY: (32, 32), FF: (32, 128), OUT: (32, 32), CONV: (32, 32, 3, 3), TEXT: (32, 32), FC1: (64, 32),
}  # fmt: skip
ORIGINAL = {
    QUERY: "input_blocks.3.1.transformer_blocks.0.attn1.to_q",
    KEY: "input_blocks.3.1.transformer_blocks.0.attn2.to_k",
    FF: "input_blocks.3.1.transformer_blocks.0.ff.net.2",
    OUT: "output_blocks.0.1.transformer_blocks.0.attn2.to_out.0",
    CONV: "middle_block.0.in_layers.2",
}
"""The names of the original code, written out."""
UP_DOWN, A_B = ("lora_up.weight", "lora_down.weight"), ("lora_B.weight", "lora_A.weight")
FLAT = f"lora_unet_{QUERY.replace('.', '_')}"


def site_of(path: str) -> str:
    """The base's name of a layer."""
    return f"text_encoder.{path}" if path in (TEXT, FC1) else f"unet.{path}"


def random(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def factors(path: str, rank: int = 4) -> tuple[Tensor, Tensor]:
    """A layer's up (out, r[, 1, 1]) and down factors (r, in[, 3, 3])."""
    out, *rest = SHAPES[path]
    seed = list(SHAPES).index(path)
    return random(out, rank, *[1] * (len(rest) - 1), seed=seed), random(rank, *rest, seed=100 + seed)


def spelled(names: Mapping[str, str], endings: tuple[str, str] = UP_DOWN, alpha: str | None = ".alpha") -> Tensors:
    """A LoRA of rank 4 and alpha 2 with these names of layers; `endings` follow a dot, if they begin with no other."""
    tensors = {}
    for path, name in names.items():
        up, down = factors(path)
        for ending, tensor in zip(endings, (up, down), strict=True):
            tensors[f"{name}{ending if ending[0] in '_.' else f'.{ending}'}"] = tensor
        if alpha:
            tensors[f"{name}{alpha}"] = torch.tensor(2.0)
    return tensors


def flat(path: str, prefix: str = "lora_unet") -> str:
    """kohya's name."""
    if path in (TEXT, FC1):
        return f"{'lora_te' if prefix == 'lora_unet' else prefix}_text_model_{path.replace('.', '_')}"
    return f"{prefix}_{path.replace('.', '_')}"


def kohya(*paths: str, **changes: Any) -> Tensors:
    return spelled({path: flat(path) for path in paths or SHAPES}, **changes)


def processor(path: str) -> str:
    """The name in a file of diffusers' attention processors."""
    block, _, projection = path.removesuffix(".0").rpartition(".")
    return f"unet.{block}.processor.{projection}"


def half_dotted(path: str) -> str:
    head, _, tail = path.rpartition(".")
    return f"lora_unet_{head.replace('.', '_')}.{tail}"


UNET = (QUERY, KEY, FF, OUT, CONV)
LAYOUTS: dict[str, Callable[[], Tensors]] = {
    "kohya": kohya,
    "dotted names of the original code": lambda: spelled({path: f"unet.{ORIGINAL[path]}" for path in UNET}),
    "bare names of the original code": lambda: spelled({path: ORIGINAL[path] for path in UNET}),
    "kohya's of the original code": lambda: spelled(
        {path: f"lora_unet_{ORIGINAL[path].replace('.', '_')}" for path in UNET}
    ),
    "half-dotted": lambda: spelled({path: half_dotted(path) for path in UNET}),
    "dotted names of diffusers": lambda: spelled({path: f"unet.{path}" for path in UNET}),
    "bare names of diffusers": lambda: spelled({path: path for path in UNET}, A_B),
    "ComfyUI": lambda: (
        spelled({path: f"diffusion_model.{ORIGINAL[path]}" for path in UNET})
        | spelled({path: f"text_encoders.clip_l.transformer.text_model.{path}" for path in (TEXT, FC1)})
    ),
    "ComfyUI, text encoder alone": lambda: spelled(
        {path: f"clip_l.transformer.text_model.{path}" for path in (TEXT, FC1)}
    ),
    "ComfyUI, short": lambda: spelled({path: f"clip_l.text_model.{path}" for path in (TEXT, FC1)}),
    "checkpoint": lambda: (
        spelled({path: f"model.diffusion_model.{ORIGINAL[path]}" for path in UNET})
        | spelled({TEXT: f"cond_stage_model.transformer.text_model.{TEXT}"})
    ),
    "diffusers": lambda: (
        spelled({path: f"unet.{path}" for path in UNET}, A_B)
        | spelled({TEXT: f"text_encoder.text_model.{TEXT}", FC1: f"text_encoder.{FC1}"}, A_B)
    ),
    "diffusers with the adapter's name": lambda: spelled(
        {path: f"unet.{path}" for path in UNET}, ("lora_B.default.weight", "lora_A.default.weight")
    ),
    "attention processors": lambda: spelled(
        {path: processor(path) for path in (QUERY, KEY, OUT)}, ("_lora.up.weight", "_lora.down.weight")
    ),
    "text encoder before PEFT": lambda: spelled(
        {path: f"text_encoder.text_model.{path}" for path in (TEXT, FC1)},
        ("lora_linear_layer.up.weight", "lora_linear_layer.down.weight"),
    ),
    "LyCORIS": lambda: spelled({path: flat(path, "lycoris") for path in SHAPES}),
    "mixed": lambda: spelled({QUERY: f"unet.{QUERY}"}, A_B) | kohya(KEY, TEXT),
}
"""Layouts of a LoRA of rank 4 with alpha 2, by what is known of each."""


def write(folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """The tensors as folder/rex.safetensors."""
    path = folder / "rex.safetensors"
    save_file(
        {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()},
        path,
        dict(metadata) if metadata else None,
    )
    return path


def peft_folder(folder: Path, tensors: Mapping[str, Tensor], **config: Any) -> Path:
    """The tensors, by their keys below the part, as a folder that PEFT wrote."""
    place = folder / "unet"
    place.mkdir()
    stored = {
        f"base_model.model.{key}": tensor.clone(memory_format=torch.contiguous_format)
        for key, tensor in tensors.items()
    }
    save_file(stored, place / "adapter_model.safetensors")
    (place / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 2, **config}))
    return folder


Make = Callable[[Path], Path]
"""Writes a file into a folder, and returns its path."""


def tensors(held: Tensors, metadata: dict[str, str] | None = None) -> Make:
    return lambda folder: write(folder, held, metadata)


def data(content: bytes, name: str = "rex.safetensors") -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def peft(**config: Any) -> Make:
    return lambda folder: peft_folder(folder, spelled({QUERY: QUERY}, A_B, None), **config)


def layer(key: str, *shape: int) -> Make:
    return tensors({key: torch.zeros(shape or (4, 64))})


def deltas_of(base: Base, path: Path) -> dict[str, Tensor]:
    loaded = load_concept(base, import_concept(base, path, {}))
    with torch.no_grad():
        return {name: adapter.delta(loaded.sites[name].weight) for name, adapter in loaded.modules.items()}


def weight_of(base: Base, path: str) -> Tensor:
    module: Any = base.sites_of(("linear", "convolution"))[site_of(path)].module
    return module.weight.detach()


def assert_same(ours: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for name, delta in expected.items():
        torch.testing.assert_close(ours[name], delta, rtol=1e-4, atol=1e-6)
