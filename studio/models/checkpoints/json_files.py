"""The JSON files of diffusers folders, in whatever encoding people have them."""

import json
from pathlib import Path
from typing import Any

from concepts.errors import StudioError

INDEX = "model_index.json"
HINT = "Get a complete copy."


def read_json(file: Path, shown: Path) -> dict[str, Any]:
    """The object in a JSON file; StudioError, which names it as a file of the folder `shown`, for anything else."""
    name = f"{file.parent.name}/{file.name}" if file.name != INDEX else file.name
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise StudioError(f"{shown} has no {name}. {HINT}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StudioError(f"{name} in {shown} is not JSON in UTF-8. {HINT}") from error
    if not isinstance(content, dict):
        raise StudioError(f"{name} in {shown} is not a JSON object. {HINT}")
    return content


def check_json(folder: Path, part: str, shown: Path) -> None:
    """Raises StudioError for a JSON file of a part, its tokenizer's vocabulary included, that cannot be read."""
    for file in sorted((folder / part).glob("*.json")):
        if not file.name.startswith("._"):  # macOS' own
            read_json(file, shown)
    if part.startswith("tokenizer") and not any(
        (folder / part / name).is_file() for name in ("tokenizer.json", "vocab.json")
    ):
        raise StudioError(f"{shown / part} has no vocabulary. {HINT}")
    if part == "scheduler":
        read_json(folder / part / "scheduler_config.json", shown)
