"""Reads inputs, and says of each whether it was read, refused in a sentence, or ended in another way."""

import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzzing.importers import Importer
from tests.fuzzing.workspace import Workspace
from ui.services.error_messages import USER_ERRORS, sentence

CHANGED, VALID = 0.65, 0.1
"""The fractions of inputs that are valid files with one change, and valid ones; the others are made up."""
_RENEWED = 100
"""After so many inputs another library is used."""


@dataclass(frozen=True)
class Result:
    """One input: what it was, how it ended ("read", "refused", or a fault), and the details of a fault."""

    importer: str
    number: int
    kind: str
    outcome: str
    details: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether the importer did neither read nor refuse the input as it should."""
        return self.outcome not in ("read", "refused")


def fuzz(
    workspace: Workspace, importers: Mapping[str, Importer], inputs: int, seed: int, folder: Path
) -> Iterator[Result]:
    """The results of `inputs` inputs, in turn for each importer; number and seed give the same input again."""
    for number in range(inputs):
        name = list(importers)[number % len(importers)]
        if number % _RENEWED == 0:
            workspace.renew()
        yield one(workspace, name, importers[name], number, seed, folder)


def one(workspace: Workspace, name: str, importer: Importer, number: int, seed: int, folder: Path) -> Result:
    """The result of the input of this number, which is written into a new folder and removed."""
    rng, place = Random(f"{seed} {name} {number}"), folder / f"input-{number}"
    place.mkdir()
    try:
        kind, path = _input(rng, importer, place)
        outcome, details = _outcome(workspace, lambda: importer.read(workspace, path))
        if kind == "valid" and outcome == "refused":
            outcome = "valid and refused"
        return Result(name, number, kind, outcome, details)
    finally:
        shutil.rmtree(place)


def _input(rng: Random, importer: Importer, folder: Path) -> tuple[str, Path]:
    share = rng.random()
    if share > CHANGED + VALID:
        return "made up", importer.arbitrary(rng, folder)
    path = importer.valid(rng, folder)
    return ("valid" if share > CHANGED else importer.change(rng, path)), path


def _outcome(workspace: Workspace, read: Callable[[], None]) -> tuple[str, str]:
    before = workspace.state()
    try:
        read()
    except USER_ERRORS as error:
        said = sentence(error)
        if workspace.state() != before:
            return "refused and written", said
        if not said.isprintable() or len(said) > 1000:
            return "unreadable message", repr(said)
        return "refused", said
    except Exception:
        return "traceback", traceback.format_exc()
    return "read", ""


def table(results: list[Result]) -> str:
    """How many inputs of each kind ended in each way."""
    counts = Counter((result.importer, result.kind, result.outcome) for result in results)
    outcomes = list(dict.fromkeys(["read", "refused", *(result.outcome for result in results)]))
    rows = [["importer", "input", *outcomes]]
    for importer, kind in sorted({(result.importer, result.kind) for result in results}):
        rows.append([importer, kind, *(str(counts[importer, kind, outcome]) for outcome in outcomes)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
