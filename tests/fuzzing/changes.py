"""Changes of one part of a valid file: its keys, shapes, types, values, metadata, length, encoding or bytes."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, 10**30, 1e400, float("nan"), "", "4", "text", "\x00", "é" * 300, [], [1], {},
    {"a": 1}, "(a+)+$", "[", "*",
)  # fmt: skip
ODD_KEYS = (
    "",
    ".",
    "..",
    "weight",
    "lora_up.weight",
    "\x1b[31m",
    "é",
    "a" * 3000,
    "__metadata__",
    "unet.",
    "alpha",
    "<x>",
)
DTYPES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "U16": 2, "U32": 4, "U64": 8, "BOOL": 1, "C64": 8, "F4": 1, "F8_E8M0": 1, "X": 1,
}  # fmt: skip
Header = dict[str, Any]


def change_bytes(rng: Random, data: bytes) -> tuple[str, bytes]:
    """Truncates, extends, or changes some bytes."""
    kind = rng.choice(["length", "bytes", "bytes"])
    if kind == "length":
        return kind, data[: rng.randrange(len(data) + 1)] if rng.random() < 0.7 else data + rng.randbytes(
            rng.randrange(1, 99)
        )
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if changed:
            changed[rng.randrange(min(len(changed), rng.choice([16, 400, 10**6])))] = rng.randrange(256)
    return kind, bytes(changed)


def change_text(rng: Random, data: bytes) -> tuple[str, bytes]:
    """Another encoding of a text in UTF-8, or other bytes."""
    if rng.random() < 0.5:
        return change_bytes(rng, data)
    encoding = rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp037"])
    return "encoding", data.decode("utf-8", "replace").encode(encoding, "replace")


def change_json(rng: Random, document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Another value, another key, or a key less, anywhere in the document."""
    holder = document
    while (inner := [value for value in holder.values() if isinstance(value, dict) and value]) and rng.random() < 0.7:
        holder = rng.choice(inner)
    key = rng.choice(list(holder)) if holder else ""
    kind = rng.choice(["value", "value", "key", "dropped"])
    value = holder.pop(key, None)
    if kind != "dropped":
        holder[key if kind == "value" else changed_key(rng, key)] = rng.choice(ODD_VALUES) if kind == "value" else value
    return f"JSON {kind}", document


def changed_key(rng: Random, key: str) -> str:
    """A key with a part less, in another place or in other letters, or another key."""
    parts = key.split(rng.choice("._"))
    position = rng.randrange(len(key) + 1)
    return rng.choice(
        [
            rng.choice(ODD_KEYS),
            key.upper(),
            key[:position] + rng.choice("._0é ") + key[position:],
            key[:position] + key[position + 1 :],
            ".".join(parts[1:]),
            "_".join(parts[:-1]),
            ".".join([*parts, parts[0]]),
            f"{rng.choice(['unet.', 'lora_te2_', 'text_encoder.', 'transformer.', 'bundle_emb.x.'])}{key}",
        ]
    )


def change_safetensors(rng: Random, path: Path) -> str:
    """Changes one part of a safetensors file in place; what was changed."""
    data = path.read_bytes()
    if rng.random() < 0.25:
        kind, changed = change_bytes(rng, data)
    else:
        size = int.from_bytes(data[:8], "little")
        kind, change = rng.choice(list(_HEADER_CHANGES.items()))
        changed = _with_header(*change(rng, json.loads(data[8 : 8 + size]), data[8 + size :]))
    path.write_bytes(changed)
    return kind


def _with_header(header: Header, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def _tensor(rng: Random, header: Header) -> tuple[str, dict[str, Any]]:
    key = rng.choice([key for key in header if key != "__metadata__"])
    return key, header[key]


def _key(rng: Random, header: Header, body: bytes) -> tuple[Header, bytes]:
    key, entry = _tensor(rng, header)
    header.pop(key)
    return {**header, changed_key(rng, key): entry}, body


def _shape(rng: Random, header: Header, body: bytes) -> tuple[Header, bytes]:
    """Another shape of as many numbers, or, with other bytes, of more, fewer or none."""
    _, entry = _tensor(rng, header)
    shape, count = entry["shape"], math.prod(entry["shape"])
    shapes = [
        [count],
        [1, count],
        [count, 1],
        shape[::-1],
        [*shape, 1, 1],
        [1, *shape],
        [0, *shape],
        [count, 0],
        [-1],
        [],
    ]
    entry["shape"] = rng.choice(shapes)
    if rng.random() < 0.7:
        return _resized(header, entry, body)
    return header, body


def _resized(header: Header, entry: dict[str, Any], body: bytes) -> tuple[Header, bytes]:
    """The tensor's bytes again at the end, as many as its shape and type need, and those of the others before."""
    needed = max(0, math.prod(entry["shape"])) * DTYPES[entry["dtype"]]
    start, end = entry["data_offsets"]
    others = [each for key, each in header.items() if key != "__metadata__" and each is not entry]
    for each in others:
        each["data_offsets"] = [offset - (end - start if offset >= end else 0) for offset in each["data_offsets"]]
    own, rest = body[start:end], body[:start] + body[end:]
    entry["data_offsets"] = [len(rest), len(rest) + needed]
    return header, rest + (own * (1 + needed // max(1, len(own))))[:needed]


def _dtype(rng: Random, header: Header, body: bytes) -> tuple[Header, bytes]:
    _, entry = _tensor(rng, header)
    entry["dtype"] = rng.choice(list(DTYPES))
    return _resized(header, entry, body) if rng.random() < 0.8 else (header, body)


def _values(rng: Random, header: Header, body: bytes) -> tuple[Header, bytes]:
    _, entry = _tensor(rng, header)
    start, end = entry["data_offsets"]
    pattern = rng.choice(
        [b"\x00", b"\xff", b"\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f", b"\xff\xff\x7f\x7f", b"\x3c"]
    )
    where = rng.choice([start, rng.randrange(start, end)]) if end > start else start
    return header, body[:where] + (pattern * (end - where))[: end - where] + body[end:]


def _dropped(rng: Random, header: Header, body: bytes) -> tuple[Header, bytes]:
    _, entry = _tensor(rng, header)
    header, body = _resized(header, entry, body)
    header = {key: each for key, each in header.items() if each is not entry}
    return header, body[: entry["data_offsets"][0]]


def _metadata(rng: Random, header: Header, body: bytes) -> tuple[Header, bytes]:
    name = rng.choice(
        ["lora_adapter_metadata", "concept_studio", "ss_base_model_version", "modelspec.architecture", "unet.r", "rank",
         "lora_alpha", "modelspec.trigger_phrase", "ss_output_name", "text_encoder.alpha"]
    )  # fmt: skip
    odd = rng.choice(ODD_VALUES)
    documents = [
        odd,
        {"unet.r": odd},
        {"unet.r": 4, "unet.lora_alpha": odd},
        {"base": odd},
        {"unet.r": 4, "unet.rank_pattern": odd},
    ]
    text = json.dumps(rng.choice(documents)) if rng.random() < 0.7 else str(odd)
    kept = header.get("__metadata__", {})
    return {"__metadata__": {**kept, name: text if rng.random() < 0.95 else odd}, **header}, body


_HEADER_CHANGES: dict[str, Callable[[Random, Header, bytes], tuple[Header, bytes]]] = {
    "key": _key,
    "shape": _shape,
    "type": _dtype,
    "values": _values,
    "tensor dropped": _dropped,
    "metadata": _metadata,
}
