"""Recipes, manifests, captions, prompts and uploads: how inputs of them are made and read."""

import io
import json
import tomllib
from pathlib import Path
from random import Random

from PIL import Image
from pillow_heif import register_heif_opener

from concepts.errors import StudioError
from concepts.images.near_duplicates import inspect_pictures
from concepts.images.picture_files import list_pictures
from studio.models.generation_request import GenerationRequest
from tests.fuzzing.changes import change_bytes, change_json, change_text
from tests.fuzzing.workspace import Workspace
from training.config.recipe import Recipe
from training.jobs.manifest import read_manifest, runs_of
from ui.cli.train import read_recipe
from ui.services.parsing import prompts_from

register_heif_opener()
_WORDS = (
    "a photo of", "<rex>", "<concept-1>", "(a dog:1.2)", "BREAK", "\\(", "<lora:rex:0.8>", "< rex >", "<", ">", "<>",
    "((", ":1.5)", "<rex:", "[a|b]", "🐶", "e\u0301", "\u202e", "\0", "\n", "x" * 300, "<my dog>", "</w>",
    "<|endoftext|>",
)  # fmt: skip
_FORMATS = {
    "png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "avif": "AVIF",
    "heic": "HEIF",
}  # fmt: skip


def toml(document: dict[str, object]) -> str:
    """A document as TOML, a key a line; what TOML has no form for is left out."""
    return "".join(f"{json.dumps(key)} = {_value(value)}\n" for key, value in document.items() if value is not None)


def _value(value: object) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {_value(each)}" for key, each in value.items() if each is not None)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value if each is not None) + "]"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


def valid_recipe(rng: Random, folder: Path) -> Path:
    """Some options with values that they may have."""
    options = Recipe(rank=rng.randrange(1, 9), steps=rng.randrange(1, 99)).model_dump(mode="json", exclude_none=True)
    kept = {key: options[key] for key in rng.sample(sorted(options), 8)}
    return _written(folder / "recipe.toml", toml(kept))


def valid_manifest(rng: Random, folder: Path) -> Path:
    """A manifest of a folder of pictures, which lies beside it."""
    (folder / "rex").mkdir(exist_ok=True)
    group = {"pictures": "rex", "class": "dog", "recipe": {"rank": rng.randrange(1, 9)}}
    sweep = {"seed": [0, 1]} if rng.random() < 0.5 else {}
    return _written(folder / "dogs.toml", toml({"recipe": {"steps": 2}, "sweep": sweep, "concepts": [group]}))


def change_toml(rng: Random, path: Path) -> str:
    """Another value or key, or other bytes."""
    if rng.random() < 0.4:
        kind, data = change_text(rng, path.read_bytes())
        path.write_bytes(data)
        return kind
    kind, document = change_json(rng, tomllib.loads(path.read_text()))
    _written(path, toml(document))
    return kind


def any_text(rng: Random, folder: Path) -> Path:
    """Bytes, or words that mean something in other files."""
    path = folder / "1.txt"
    if rng.random() < 0.5:
        path.write_bytes(rng.randbytes(rng.randrange(300)))
        return path
    return _written(path, " ".join(rng.choice(_WORDS) for _ in range(rng.randrange(12))))


def read_recipe_file(workspace: Workspace, path: Path) -> None:
    """Reads it as `studio train --recipe` does."""
    Recipe(**read_recipe(path))


def read_manifest_file(workspace: Workspace, path: Path) -> None:
    """Reads it as `studio batch` does."""
    runs_of(read_manifest(path), path.parent)


def valid_caption(rng: Random, folder: Path) -> Path:
    """A picture with a caption beside it."""
    path = folder / rng.choice(["1.txt", "1.TXT", "1.caption", "1.png.txt"])
    path.write_bytes(
        rng.choice(["a dog", "a photo of <x> on the beach, “red”"]).encode(rng.choice(["utf-8", "utf-16"]))
    )
    return path


def change_caption(rng: Random, path: Path) -> str:
    """Other bytes or another encoding."""
    kind, data = change_text(rng, path.read_bytes())
    path.write_bytes(data * rng.choice([1, 1, 500]))
    return kind


def read_caption_file(workspace: Workspace, path: Path) -> None:
    """Adds a concept of a picture with this file beside it."""
    Image.new("RGB", (64, 64), "red").save(path.with_name("1.png"))
    workspace.workflow.library.add_concept(workspace.new_name(), "dog", list_pictures([path.parent]).pictures)


def valid_prompt(rng: Random, folder: Path) -> Path:
    """A file of prompts that any base reads."""
    return _written(folder / "prompts.txt", "a photo of a dog\na cat (on the beach)\n")


def change_prompt(rng: Random, path: Path) -> str:
    """Other bytes or another encoding, or a prompt of hundreds of words."""
    if rng.random() < 0.1:
        path.write_bytes(path.read_bytes().replace(b"dog", b"dog " * rng.choice([80, 900])))
        return "long"
    kind, data = change_text(rng, path.read_bytes())
    path.write_bytes(data)
    return kind


def read_prompts(workspace: Workspace, path: Path) -> None:
    """Encodes each prompt of a file in both syntaxes, as `studio generate` does."""
    for prompt in prompts_from(path):
        for syntax in ("plain", "a1111"):
            request = GenerationRequest(prompt=prompt, prompt_syntax=syntax, num_images=1)
            workspace.workflow.named_in(request.prompt)
            workspace.base.encode([request.prompt], request.prompt_syntax)


def valid_upload(rng: Random, folder: Path) -> Path:
    """A picture of any format that is read, with or without transparency."""
    suffix = rng.choice(sorted(_FORMATS))
    mode = "RGB" if suffix in ("jpg", "heic", "avif") else rng.choice(["RGB", "RGBA", "L", "P", "1"])
    picture = Image.new("RGB", (rng.choice([64, 80]), 64), "navy")
    picture.paste("orange", (0, 0, 20, 20))
    buffer = io.BytesIO()
    picture.convert(mode).save(buffer, _FORMATS[suffix])
    path = folder / f"1.{suffix}"
    path.write_bytes(buffer.getvalue())
    return path


def change_upload(rng: Random, path: Path) -> str:
    """Other bytes, or another ending."""
    if rng.random() < 0.1:
        path.write_bytes(b"\xff\xd8\xff" + path.read_bytes())
        return "signature"
    kind, data = change_bytes(rng, path.read_bytes())
    path.write_bytes(data)
    return kind


def any_upload(rng: Random, folder: Path) -> Path:
    """Bytes that begin as a picture, or do not."""
    path = folder / f"1.{rng.choice(sorted(_FORMATS))}"
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP", b"")
    path.write_bytes(rng.choice(starts) + rng.randbytes(rng.randrange(400)))
    return path


def read_upload(workspace: Workspace, path: Path) -> None:
    """Judges an upload as the page does, and adds what is good."""
    (item,) = inspect_pictures([path])
    if item.imported is None:
        raise StudioError(item.problem or "")
    workspace.workflow.library.add_concept(workspace.new_name(), "dog", [item.imported])


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
