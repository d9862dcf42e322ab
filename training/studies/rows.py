"""A study's folder: its settings, and its rows as files, written as they are computed."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from concepts import atomic_write
from concepts.errors import StudioError

Row = dict[str, Any]


class Rows:
    """The rows of one study; existing ones are reused.

    Raises StudioError where the folder has a study with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        self.folder = folder
        (folder / "rows").mkdir(parents=True, exist_ok=True)
        path = folder / "settings.json"
        if path.exists() and json.loads(path.read_text()) != json.loads(json.dumps(settings)):
            raise StudioError(
                f"{path} has results of a study with other settings. Choose another folder, or the same settings."
            )
        atomic_write(path, json.dumps(settings, indent=2).encode())

    def row(self, name: str, make: Callable[[], Row]) -> Row:
        """The row of that name, from its file or computed now, with its duration as `row_seconds`."""
        path = self.folder / "rows" / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        began = perf_counter()
        row = make()
        row["row_seconds"] = perf_counter() - began
        atomic_write(path, json.dumps(row, indent=2).encode())
        return row

    def found(self) -> list[Row]:
        """All existing rows."""
        return [json.loads(path.read_text()) for path in sorted((self.folder / "rows").glob("*.json"))]

    def place(self, kind: str, name: str) -> Path:
        """The path of a further file of the study, in a folder of its kind."""
        (self.folder / kind).mkdir(exist_ok=True)
        return self.folder / kind / name
