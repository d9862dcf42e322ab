"""`python -m tests.fuzzing --inputs 5000 --seed 1`: exit status 1 if an input ended in anything but a sentence."""

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

from studio.models.base_model import load_base
from tests.fuzzing.harness import fuzz, table
from tests.fuzzing.importers import IMPORTERS
from tests.fuzzing.workspace import Workspace
from tests.tiny_models import write_tiny

_SHOWN = 10
"""Faults that are printed in full."""


def main() -> int:
    """Prints progress, faults and a table; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000, help="how many inputs, over all importers")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other inputs")
    parser.add_argument("--importer", choices=list(IMPORTERS), action="append", help="only this importer; repeatable")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen = {name: IMPORTERS[name] for name in options.importer or IMPORTERS}
    with tempfile.TemporaryDirectory() as held:
        folder, results, start = Path(held), [], time.monotonic()
        workspace = Workspace(load_base(str(write_tiny(folder / "tiny")), device="cpu"), folder)
        for result in fuzz(workspace, chosen, options.inputs, options.seed, folder):
            results.append(result)
            if result.is_fault and sum(each.is_fault for each in results) <= _SHOWN:
                print(f"{result.importer} {result.number}, {result.kind}: {result.outcome}\n{result.details}")
            if len(results) % 500 == 0:
                print(f"{len(results)} inputs, {time.monotonic() - start:.0f} s", file=sys.stderr)
    faults = sum(result.is_fault for result in results)
    print(f"{table(results)}\n{len(results)} inputs, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
