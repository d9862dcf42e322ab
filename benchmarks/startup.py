"""How long commands take from start to end: `python -m benchmarks.startup`, best on an idle machine.

Every command runs in a process of its own, in rounds, after one round that fills the caches. The medians of wall time
and of CPU time (user and system) go to `benchmarks/results/startup.md`, beside the time that each command may take.
"""

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from concepts.storage import atomic_write

RESULTS = Path(__file__).parent / "results"
STUDIO = ("-m", "ui.cli.main")
GENERATE = "import ui.services.generation, ui.services.control, ui.services.image_files"
"""What `studio generate` imports before it loads the base."""


NOTE = (
    "The imports of `studio generate` are mostly those of a UNet in diffusers 0.42, which imports torch._dynamo, PEFT "
    "and transformers' models with it: `python -X importtime` shows which."
)


@dataclass(frozen=True)
class Command:
    """What is measured: its name, Python's arguments, and the wall seconds that it may take, None for a reference."""

    name: str
    arguments: tuple[str, ...]
    most_seconds: float | None


@dataclass(frozen=True)
class Run:
    """One process: its wall seconds, and its CPU seconds in user and system mode."""

    wall: float
    cpu: float


def commands_in(folder: Path) -> list[Command]:
    """The commands, on a library in this folder."""
    library = ("--library", str(folder / "library"))
    generate = ("generate", "a cat", "--num-images", "1", "-o", str(folder / "pictures"), *library)
    return [
        Command("studio --help", (*STUDIO, "--help"), 0.5),
        Command("studio concept list", (*STUDIO, "concept", "list", *library), 0.8),
        Command("studio adapters", (*STUDIO, "adapters"), 1.0),
        Command("imports of studio generate", ("-c", GENERATE), 4.0),
        Command("studio generate, one picture", (*STUDIO, *generate), 8.0),
        Command("import torch", ("-c", "import torch"), None),
    ]


def measure(command: Command) -> Run:
    """Runs the command once; CalledProcessError with its output if it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    subprocess.run([sys.executable, *command.arguments], check=True, capture_output=True)
    wall, after = perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def processor() -> str:
    """The processor's name as Linux has it, else the platform's."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def table(runs: dict[Command, Sequence[Run]]) -> str:
    """The medians as a Markdown table, with the least of each in brackets."""
    rows = ["| command | wall s | CPU s | at most, wall s |", "|---|---|---|---|"]
    for command, own in runs.items():
        wall, cpu = ([getattr(run, kind) for run in own] for kind in ("wall", "cpu"))
        cells = [f"{statistics.median(values):.2f} ({min(values):.2f})" for values in (wall, cpu)]
        rows.append(f"| {command.name} | {' | '.join(cells)} | {command.most_seconds or ''} |")
    return "\n".join(rows)


def main() -> None:
    """Measures, prints the table, and writes it to the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default: 5)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[Command, list[Run]] = {command: [] for command in commands_in(Path(folder))}
        for number in range(rounds + 1):
            for command, own in runs.items():
                run = measure(command)
                own += [run] if number else []
    head = f"Medians of {rounds} rounds, the least in brackets, on {processor()}, Python {platform.python_version()}."
    times = table({command: tuple(own) for command, own in runs.items()})
    document = f"# Start-up times\n\n{head}\n\n{times}\n\n{NOTE}\n"
    atomic_write(RESULTS / "startup.md", document.encode())
    print(document)


if __name__ == "__main__":
    main()
