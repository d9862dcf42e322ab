"""The importers that are tried: how a valid input of each is made, changed, made up, and read.

To add one, write these four functions and a line in IMPORTERS.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save_file
from torch import Tensor

from concepts.errors import StudioError
from studio.composition.loaded_concept import load_concept
from studio.formats.resizing import resize_lora
from studio.formats.safe_reading import read_tensors
from studio.formats.textual_inversion import read_token
from studio.layers.rank_choice import RankChoice
from tests.fuzzing import checkpoints
from tests.fuzzing import text_importers as texts
from tests.fuzzing.changes import ODD_KEYS, change_json, change_safetensors, change_text, changed_key
from tests.fuzzing.workspace import Workspace
from tests.studio.formats.foreign_files import A_B, FLAT, LAYOUTS, QUERY, TEXT, kohya, peft_folder, random, spelled
from ui.services.import_export import import_file


@dataclass(frozen=True)
class Importer:
    """`valid` writes a valid input into a folder and returns its path, `change` changes one part of it and says which,
    `arbitrary` writes an input that no tool writes, and `read` reads any of them into the workspace.
    """

    valid: Callable[[Random, Path], Path]
    change: Callable[[Random, Path], str]
    arbitrary: Callable[[Random, Path], Path]
    read: Callable[[Workspace, Path], None]


def _lora(rng: Random, folder: Path) -> Path:
    tensors = rng.choice([*LAYOUTS.values(), *_METHODS])()
    metadata = rng.choice([{}, {}, {"ss_base_model_version": "other"}, {"rank": "4", "alpha": "2"}])
    return _saved(folder, tensors, metadata)


def _module(**tensors: Tensor) -> Callable[[], dict[str, Tensor]]:
    return lambda: {f"{FLAT}.{role.replace('__', '.')}": tensor.clone() for role, tensor in tensors.items()}


_METHODS = [
    _module(hada_w1_a=random(32, 4), hada_w1_b=random(4, 32), hada_w2_a=random(32, 4), hada_w2_b=random(4, 32)),
    _module(lokr_w1=random(4, 4), lokr_w2_a=random(8, 2), lokr_w2_b=random(2, 8), alpha=torch.tensor(1.0)),
    _module(oft_blocks=random(4, 8, 8), alpha=torch.tensor(0.01), rescale=random(32, 1)),
    _module(oft_blocks=random(3, 8, 4, 4), alpha=torch.tensor(0.0)),
    _module(oft_R__weight=random(4, 28)),
    _module(a1__weight=random(32, 4), a2__weight=random(4, 32), b1__weight=random(32, 4), b2__weight=random(4, 32)),
    _module(weight=random(32), on_input=torch.tensor(1)),
    _module(diff=random(32, 32), diff_b=random(32)),
    lambda: {**kohya(QUERY), f"{FLAT}.dora_scale": random(32, 1)},
    lambda: {**kohya(QUERY, TEXT), "bundle_emb.dog.emb_params": random(2, 32)},
]  # fmt: skip


def _saved(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path = folder / "rex.safetensors"
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, path, metadata or None)
    return path


def _made_up(rng: Random, folder: Path) -> Path:
    """Bytes, or tensors of any shape by made-up keys."""
    path = folder / "rex.safetensors"
    if rng.random() < 0.3:
        path.write_bytes(
            rng.choice([b"", b"PK\x03\x04", b"\x80\x04", b"<html>", b"{}"]) + rng.randbytes(rng.randrange(200))
        )
        return path
    keys = [changed_key(rng, rng.choice([*kohya(), *ODD_KEYS])) for _ in range(rng.randrange(4))]
    shapes = [tuple(rng.choice([1, 2, 4, 32]) for _ in range(rng.randrange(5))) for _ in keys]
    return _saved(
        folder, {key: torch.ones(shape) for key, shape in zip(keys, shapes, strict=True) if key != "__metadata__"}
    )


def _read_lora(workspace: Workspace, path: Path) -> None:
    concept, _ = import_file(workspace.workflow, path, workspace.new_name(), "dog")
    loaded = load_concept(workspace.base, workspace.workflow.trained(concept.name))
    with torch.no_grad():
        deltas = (adapter.delta(loaded.sites[name].weight) for name, adapter in loaded.modules.items())
        if not all(bool(delta.isfinite().all()) for delta in deltas):
            raise ArithmeticError("the change is not finite")


def _plain_lora(rng: Random, folder: Path) -> Path:
    tensors = rng.choice([*LAYOUTS.values(), lambda: {**kohya(QUERY), f"{FLAT}.dora_scale": random(32, 1)}])()
    metadata = rng.choice([{}, {"ss_network_dim": "4", "ss_network_args": "{}"}, {"rank": "4", "alpha": "2"}])
    return _saved(folder, tensors, metadata)


def _resize_lora(workspace: Workspace, path: Path) -> None:
    output = path.with_name("small.safetensors")
    try:
        made = resize_lora(path, output, RankChoice(2))
    except StudioError:
        if output.exists():
            raise ArithmeticError("a file was written on a refusal") from None
        raise
    if not (0 <= made.error <= 1 and made.rank <= 2):
        raise ArithmeticError(f"the error is {made.error} at rank {made.rank}")
    read_tensors(output)


_PEFT = [
    ({"peft_type": "LORA"}, lambda: spelled({QUERY: QUERY}, A_B, None)),
    ({"use_dora": True}, lambda: {**spelled({QUERY: QUERY}, A_B, None), f"{QUERY}.lora_magnitude_vector": random(32)}),
    ({"peft_type": "LOHA"}, lambda: {f"{QUERY}.{key.partition('.')[2]}": t for key, t in _METHODS[0]().items()}),
    ({"peft_type": "OFT", "oft_block_size": 8, "r": 4}, lambda: {f"{QUERY}.oft_R.weight": random(4, 28)}),
    ({"peft_type": "IA3", "feedforward_modules": ["to_q"]}, lambda: {f"{QUERY}.ia3_l": random(1, 32)}),
    ({"peft_type": "GLORA"}, lambda: {f"{QUERY}.glora_{path}.X": random(1) for path in "ABCDE"}),
    ({"r": 8, "rank_pattern": {"to_q": 4}, "alpha_pattern": {"to_q": 8}}, lambda: spelled({QUERY: QUERY}, A_B, None)),
]  # fmt: skip


def _peft(rng: Random, folder: Path) -> Path:
    config, tensors = rng.choice(_PEFT)
    return peft_folder(folder, tensors(), **config)


def _change_peft(rng: Random, folder: Path) -> str:
    config = folder / "unet" / "adapter_config.json"
    part = rng.choice(["config", "config", "config's bytes", "tensors", "file"])
    if part == "tensors":
        return change_safetensors(rng, folder / "unet" / "adapter_model.safetensors")
    if part == "config":
        kind, document = change_json(rng, json.loads(config.read_text()))
        config.write_text(json.dumps(document))
        return kind
    if part == "file":
        rng.choice([config, folder / "unet" / "adapter_model.safetensors"]).unlink()
        return "file dropped"
    kind, data = change_text(rng, config.read_bytes())
    config.write_bytes(data)
    return kind


def _made_up_peft(rng: Random, folder: Path) -> Path:
    place = folder / rng.choice(["unet", "text_encoder", "other"])
    place.mkdir()
    _made_up(rng, place).rename(place / "adapter_model.safetensors")
    _, document = change_json(rng, {"peft_type": "LORA", "r": 4})
    (place / "adapter_config.json").write_text(json.dumps(rng.choice([document, [], 1, "x"])))
    return folder


_EMBEDDINGS = ("emb_params", "string_to_param.*", "<rex>", "clip_l", "text_encoders_0")


def _embedding(rng: Random, folder: Path) -> Path:
    vectors = random(rng.choice([1, 2, 40]), 32)
    extra = {"step": torch.tensor(100)} if rng.random() < 0.2 else {}
    key = rng.choice(_EMBEDDINGS if not extra else _EMBEDDINGS[:2])
    return _saved(folder, {key: vectors[0] if rng.random() < 0.2 else vectors, **extra})


def _read_embedding(workspace: Workspace, path: Path) -> None:
    read_token(path, workspace.base.text_encoders)


IMPORTERS = {
    "LoRA files": Importer(_lora, change_safetensors, _made_up, _read_lora),
    "resized LoRA files": Importer(_plain_lora, change_safetensors, _made_up, _resize_lora),
    "PEFT folders": Importer(_peft, _change_peft, _made_up_peft, _read_lora),
    "embeddings": Importer(_embedding, change_safetensors, _made_up, _read_embedding),
    "checkpoints": Importer(
        checkpoints.valid_single_file, checkpoints.change_single_file, checkpoints.any_checkpoint,
        checkpoints.read_checkpoint,
    ),
    "diffusers folders": Importer(
        checkpoints.valid_folder, checkpoints.change_folder, checkpoints.any_checkpoint, checkpoints.read_checkpoint
    ),
    "recipes": Importer(texts.valid_recipe, texts.change_toml, texts.any_text, texts.read_recipe_file),
    "manifests": Importer(texts.valid_manifest, texts.change_toml, texts.any_text, texts.read_manifest_file),
    "captions": Importer(texts.valid_caption, texts.change_caption, texts.any_text, texts.read_caption_file),
    "prompts": Importer(texts.valid_prompt, texts.change_prompt, texts.any_text, texts.read_prompts),
    "uploads": Importer(texts.valid_upload, texts.change_upload, texts.any_upload, texts.read_upload),
}  # fmt: skip
