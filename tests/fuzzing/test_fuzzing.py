"""A small share of the inputs of `python -m tests.fuzzing`."""

from pathlib import Path

import pytest

from studio.models.base_model import Base
from tests.fuzzing.harness import CHANGED, Result, fuzz, table
from tests.fuzzing.importers import IMPORTERS
from tests.fuzzing.workspace import Workspace

INPUTS = 40


@pytest.mark.parametrize("importer", IMPORTERS)
@pytest.mark.filterwarnings("ignore")
def test_inputs_are_read_or_refused_in_a_sentence(loaded: Base, importer: str, tmp_path: Path):
    workspace = Workspace(loaded, tmp_path)
    results = list(fuzz(workspace, {importer: IMPORTERS[importer]}, INPUTS, 7, tmp_path))
    faults = [f"{result.number}: {result.outcome}\n{result.details}" for result in results if result.is_fault]
    assert not faults, faults[0]
    assert {result.outcome for result in results} == {"read", "refused"}


def test_half_of_the_inputs_are_valid_files_with_a_change(loaded: Base, tmp_path: Path):
    results = list(fuzz(Workspace(loaded, tmp_path), {"embeddings": IMPORTERS["embeddings"]}, 200, 3, tmp_path))
    changed = sum(result.kind not in ("valid", "made up") for result in results)
    assert changed >= 100
    assert abs(changed / len(results) - CHANGED) < 0.1


def test_the_table_counts_every_outcome():
    shown = table([Result("a", 0, "key", "read"), Result("a", 1, "key", "traceback"), Result("b", 2, "key", "refused")])
    assert shown.splitlines()[0].split() == ["importer", "input", "read", "refused", "traceback"]
    assert shown.splitlines()[1].split() == ["a", "key", "1", "0", "1"]
