"""Mutated single-file checkpoints and diffusers folders of a tiny base, and how they are opened.

Three in four changed ones have one part changed: a key, shape, data type, length, encoding, metadata or bytes; the
others are bytes without a model.
"""

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from safetensors.torch import load_file, save_file
from torch import Tensor

from studio.models.base_model import load_base
from tests.fuzzing.workspace import Workspace
from tests.tiny_models import write_tiny, write_whole_file

Tensors = dict[str, Tensor]
_WORDS = (
    "", "v", "epsilon", "x", "True", "None", "null", "🏖", "0" * 300, "stable-diffusion-v2-512", "sd3", "../..", "{bad",
)  # fmt: skip
_BYTES = (
    b"", b"x", b"{}", b"\xff\xfe{\x00}\x00", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    b"<!DOCTYPE html><html></html>", b"GGUF\x03\x00\x00\x00", b"PK\x03\x04", b"\x80\x02}q\x00.", bytes(64),
    (2).to_bytes(8, "little") + b"{}", (2**62).to_bytes(8, "little") + b"{", (9).to_bytes(8, "little") + b'{"a": 1}}',
    (10).to_bytes(8, "little") + b'{"a": [1]}',
)  # fmt: skip
_VALUES: tuple[Any, ...] = (None, True, -1, 0, 7, 1e9, "", "abc", [], {}, [1, "x"], {"a": 1}, "NaN")
_KEYS = (
    "lora_unet_x.lora_up.weight", "double_blocks.0.x", "joint_blocks.0.x", "v_pred", "ztsnr", "edm_mean", "x",
    "model.diffusion_model.extra", "model_ema.decay", "conditioner.embedders.1.model.ln_final.weight",
    "cond_stage_model.model.ln_final.weight",
)  # fmt: skip


def mutated_single_file(generator: Generator, folder: Path, valid: Path) -> Path:
    """A file in `folder` made from `valid`, a .safetensors checkpoint with its configurations in a folder beside it."""
    file = folder / f"model{_pick(generator, ('.safetensors', '.safetensors', '.safetensors', '.SAFETENSORS'))}"
    if generator.random() < 0.9:
        shutil.copytree(valid.with_suffix(""), folder / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    if generator.random() < 0.25:
        file.write_bytes(_random_bytes(generator))
        return file
    change = _pick(generator, (*_TENSOR_CHANGES, _changed_bytes, _changed_configuration))
    if change is _changed_bytes:
        file.write_bytes(_changed_bytes(generator, valid.read_bytes()))
        return file
    tensors, metadata = load_file(valid), _metadata(generator)
    if change is not _changed_configuration:
        change(generator, tensors)
    elif (folder / "model").is_dir():
        _changed_configuration(generator, folder / "model")
    save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, file, metadata)
    return file


def mutated_diffusers_folder(generator: Generator, folder: Path, valid: Path) -> Path:
    """A folder in `folder` made from `valid`, a diffusers folder, with one part changed."""
    made = folder / "model"
    shutil.copytree(valid, made)
    weights = _pick(generator, sorted(made.glob("*/*.safetensors")))
    kind = generator.integers(6)
    if kind == 0:
        _changed_configuration(generator, made)
    elif kind == 1:
        weights.write_bytes(_changed_bytes(generator, weights.read_bytes()))
    elif kind == 2:
        weights.write_bytes(_random_bytes(generator))
    elif kind == 3:
        target = _pick(generator, sorted(made.rglob("*")))
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    elif kind == 4:
        name = _pick(generator, ("model.fp16.safetensors", weights.name.replace(".saf", ".fp16.saf"), "x.safetensors"))
        weights.rename(weights.with_name(name))
    else:
        tensors = load_file(weights)
        _pick(generator, _TENSOR_CHANGES)(generator, tensors)
        save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, weights, {"format": "pt"})
    return made


def valid_single_file(rng: Random, folder: Path) -> Path:
    """The tiny base as a single file with its configurations."""
    shutil.copytree(_sources() / "file", folder / "given")
    return folder / "given" / "model.safetensors"


def valid_folder(rng: Random, folder: Path) -> Path:
    """The tiny base as a diffusers folder."""
    return Path(shutil.copytree(_sources() / "tiny", folder / "given"))


def change_single_file(rng: Random, path: Path) -> str:
    """Makes a changed one in place of it."""
    path.parent.rename(path.parent.with_name("valid"))
    path.parent.mkdir()
    mutated_single_file(_generator(rng), path.parent, path.parent.with_name("valid") / path.name)
    return "one part"


def change_folder(rng: Random, path: Path) -> str:
    """Makes a changed one in place of it."""
    path.rename(path.with_name("valid"))
    path.mkdir()
    mutated_diffusers_folder(_generator(rng), path, path.with_name("valid"))
    return "one part"


def any_checkpoint(rng: Random, folder: Path) -> Path:
    """Bytes that are no checkpoint."""
    path = folder / "model.safetensors"
    path.write_bytes(_random_bytes(_generator(rng)))
    return path


def read_checkpoint(workspace: Workspace, path: Path) -> None:
    """Opens what lies there as a base, whose weights must be finite."""
    source = path
    if not path.exists():  # another ending
        source = next(each for each in path.parent.iterdir() if each.is_file())
    elif path.is_dir() and not (path / "unet").is_dir() and (path / "model").is_dir():
        source = path / "model"
    base = load_base(str(source), device="cpu")
    parts = (*base.parts.values(), base.pipeline.vae)
    if not all(torch.isfinite(weight).all() for part in parts for weight in part.parameters()):
        raise ArithmeticError("a weight is not finite")


@cache
def _sources() -> Path:
    """The valid ones, made once: the folder tiny, and file with the same as a single file."""
    held = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, held, ignore_errors=True)
    write_tiny(held / "tiny")
    (held / "file").mkdir()
    write_whole_file(held / "file", load_base(str(held / "tiny"), device="cpu"), held / "tiny")
    return held


def _generator(rng: Random) -> Generator:
    return np.random.default_rng(rng.randrange(2**32))


def _pick(generator: Generator, values: Any) -> Any:
    return values[int(generator.integers(len(values)))]


def _random_bytes(generator: Generator) -> bytes:
    return _pick(generator, _BYTES) if generator.random() < 0.7 else generator.bytes(int(generator.integers(200)))


def _metadata(generator: Generator) -> dict[str, str] | None:
    keys = ("modelspec.prediction_type", "modelspec.architecture", "ss_v_parameterization", "ss_zero_terminal_snr")
    return {_pick(generator, keys): _pick(generator, _WORDS)} if generator.random() < 0.3 else None


def _changed_bytes(generator: Generator, data: bytes) -> bytes:
    place = int(generator.integers(min(len(data), 4000)))
    kind = generator.integers(3)
    if kind == 0:
        return data[: int(generator.integers(len(data)))]
    if kind == 1:
        return data[:place] + generator.bytes(4) + data[place + 4 :]
    return data[:place] + generator.bytes(3) + data[place:]


def _changed_configuration(generator: Generator, folder: Path) -> None:
    """Changes one JSON file of a folder: a value, a key, or its encoding."""
    file = _pick(generator, sorted(path for path in folder.rglob("*.json") if path.stat().st_size < 20_000))
    text = file.read_text(encoding="utf-8")
    content, kind = json.loads(text), generator.integers(5)
    key = _pick(generator, sorted(content))
    if kind == 0:
        file.write_text(text, encoding=_pick(generator, ("utf-8-sig", "utf-16", "utf-32")))
    elif kind == 1:
        file.write_text(text[: int(generator.integers(len(text)))], encoding="utf-8")
    elif kind == 2:
        del content[key]
        file.write_text(json.dumps(content), encoding="utf-8")
    elif kind == 3:
        file.write_text(json.dumps({**content, key: _pick(generator, _VALUES)}), encoding="utf-8")
    else:
        file.write_bytes(_random_bytes(generator))


def _without_key(generator: Generator, tensors: Tensors) -> None:
    del tensors[_pick(generator, sorted(tensors))]


def _renamed(generator: Generator, tensors: Tensors) -> None:
    key = _pick(generator, sorted(tensors))
    tensors[_pick(generator, (f"{key}x", f"module.{key}", key.upper(), key.replace(".", "_")))] = tensors.pop(key)


def _without_prefix(generator: Generator, tensors: Tensors) -> None:
    prefix = _pick(generator, sorted(tensors)).partition(".")[0]
    for key in [key for key in tensors if key.startswith(prefix)]:
        tensors[key.partition(".")[2] or "x"] = tensors.pop(key)


def _without_part(generator: Generator, tensors: Tensors) -> None:
    prefix = _pick(generator, sorted(tensors)).partition(".")[0]
    for key in [key for key in tensors if key.startswith(prefix)]:
        del tensors[key]


def _extra_key(generator: Generator, tensors: Tensors) -> None:
    tensors[_pick(generator, _KEYS)] = torch.zeros(int(generator.integers(3)))


def _reshaped(generator: Generator, tensors: Tensors) -> None:
    key = _pick(generator, sorted(tensors))
    tensor = tensors[key]
    shapes = (tensor.flatten(), tensor[None], tensor[:0], torch.cat([tensor, tensor]), torch.zeros(()), tensor.mT if
              tensor.ndim == 2 else tensor[..., None])  # fmt: skip
    tensors[key] = shapes[int(generator.integers(len(shapes)))]


def _retyped(generator: Generator, tensors: Tensors) -> None:
    dtypes = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.bool, torch.float8_e4m3fn)
    dtype = _pick(generator, dtypes)
    chosen = sorted(tensors) if generator.random() < 0.5 else [_pick(generator, sorted(tensors))]
    for key in chosen:
        tensors[key] = tensors[key].to(dtype)


def _not_finite(generator: Generator, tensors: Tensors) -> None:
    key = _pick(generator, sorted(key for key, tensor in tensors.items() if tensor.numel()))
    tensor = tensors[key].float().clone()
    tensor.view(-1)[int(generator.integers(tensor.numel()))] = _pick(generator, (np.nan, np.inf, -np.inf))
    tensors[key] = tensor


_TENSOR_CHANGES: tuple[Callable[[Generator, Tensors], None], ...] = (
    _without_key, _renamed, _without_prefix, _without_part, _extra_key, _reshaped, _retyped, _not_finite,
)  # fmt: skip
