"""How the library answers with 10,000 and with 1,000,000 concepts of many owners, in a real PostgreSQL.

`python -m benchmarks.scaling` makes the rows in a server of its own (the pgserver wheel), a database for each size,
asks each question many times through the library's own calls, the sizes in turns, and writes
benchmarks/results/scaling.md. With `--server FOLDER` the databases stay there, and another run finds them filled.
"""

import os
import random
import tempfile
from collections.abc import Callable
from math import log
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import psycopg
import typer

from benchmarks.common import RESULTS
from benchmarks.scaling_database import (
    BASE,
    CAPACITY,
    MEMORY,
    OWNED,
    WIDTH,
    curves,
    filled,
    postgresql_server,
    table_sizes,
    warmed,
)
from concepts import Columns, Library, Order
from concepts.storage import atomic_write
from concepts.tables import new_id
from training.config.recipe import Recipe
from training.reporting.html_report import table

BAR_SECONDS, BAR_RATIO = 0.05, 2.0
WARMING = 5


class Questions:
    """What a library is asked all day, each of them about other concepts every time."""

    def __init__(self, library: Library, rows: int):
        self._library, self._rows = library, rows
        self._chance = random.Random(0)

    def page_of_the_list(self) -> Callable[[], object]:
        """50 concepts from anywhere in the list."""
        after = self._library.page(1, owner=self._owner())[0]
        return lambda: self._library.page(OWNED, after)

    def page_of_an_owner(self) -> Callable[[], object]:
        """An owner's first 50 concepts."""
        owner = self._owner()
        return lambda: self._library.page(OWNED, owner=owner)

    def search_by_name(self) -> Callable[[], object]:
        """The first 50 names that begin with some letters."""
        digits = int(log(self._rows / OWNED, 16))
        letters = f"thing-{self._chance.randrange(16**digits):0{digits}x}"
        return lambda: self._library.page(OWNED, search=letters)

    def lease(self) -> Callable[[], object]:
        """The next job."""
        return lambda: self._library.jobs.lease("benchmark")

    def column_allocation(self) -> Callable[[], object]:
        """A block for a concept that has none, where every block is shared by many."""
        name = self._added()
        return lambda: self._library.allocate_columns(name, BASE, WIDTH, CAPACITY)

    def queueing_a_job(self) -> Callable[[], object]:
        """The same, with the job."""
        order = Order(self._added(), "sd15", BASE, Recipe().model_dump(mode="json"), Columns(WIDTH, CAPACITY))
        return lambda: self._library.jobs.queue([order])

    def _owner(self) -> str:
        return f"owner{self._chance.randrange(self._rows) * 7919 % (self._rows // OWNED)}"

    def _added(self) -> str:
        name = f"new{new_id()}"
        assert self._library.database
        with psycopg.connect(self._library.database) as connection:
            connection.execute(
                "INSERT INTO concepts (id, name, key, class_word, created) VALUES (md5(%s), %s, %s, 'dog', now())",
                (name, name, name),
            )
        return name


ASKED = ("page_of_the_list", "page_of_an_owner", "search_by_name", "lease", "column_allocation", "queueing_a_job")


def scaling(
    server: Annotated[Path | None, typer.Option(help="Where the databases stay; a temporary folder if unset.")] = None,
    rows: Annotated[list[int], typer.Option(help="How many concepts.")] = [10_000, 1_000_000],  # noqa: B006
    repeats: Annotated[int, typer.Option(help="Number of queries of each kind; 0 only makes the rows.")] = 200,
) -> None:
    """Make a library of each size, ask, and compare."""
    sizes = sorted(rows)
    with tempfile.TemporaryDirectory() as folder, postgresql_server(server or Path(folder) / "server") as url:
        made = {size: filled(url, size) for size in sizes}
        sizes_summary = ". ".join([*(table_sizes(made[size], size) for size in sizes), curves(made[sizes[0]])])
        print(sizes_summary)
        if not repeats:
            return
        for database in made.values():
            warmed(database)
        asked = {size: Questions(Library(Path(folder) / str(size), made[size]), size) for size in sizes}
        found = _answers(asked, repeats)
    text = _document(found, repeats, sizes_summary)
    RESULTS.mkdir(parents=True, exist_ok=True)
    atomic_write(RESULTS / "scaling.md", text.encode())
    print(text)


def _answers(asked: dict[int, Questions], repeats: int) -> dict[int, dict[str, np.ndarray]]:
    """The seconds of every answer, by size and question; the first few, which open connections, do not count."""
    taken: dict[int, dict[str, list[float]]] = {size: {name: [] for name in ASKED} for size in asked}
    for number in range(repeats + WARMING):
        for name in ASKED:
            for size, questions in asked.items():
                ask = getattr(questions, name)()
                began = perf_counter()
                ask()
                if number >= WARMING:
                    taken[size][name].append(perf_counter() - began)
    return {size: {name: np.array(seconds) for name, seconds in each.items()} for size, each in taken.items()}


def _document(found: dict[int, dict[str, np.ndarray]], repeats: int, sizes_summary: str) -> str:
    sizes = sorted(found)
    columns = ["query", *(f"{size:,}: p50, p95" for size in sizes), "p95 ratio", "target met"]
    lines = []
    for name in ASKED:
        p95 = [float(np.quantile(found[size][name], 0.95)) for size in sizes]
        cells = [f"{np.median(found[s][name]) * 1e3:.1f} ms, {p * 1e3:.1f} ms" for s, p in zip(sizes, p95, strict=True)]
        ratio = p95[-1] / p95[0]
        holds = "yes" if p95[-1] <= BAR_SECONDS and ratio <= BAR_RATIO else "no"
        lines.append([name.replace("_", " "), *cells, f"{ratio:.2f}", holds])
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    note = f"{repeats} queries each, in turns, from a PostgreSQL with {MEMORY} of shared buffers, warm; "
    note += f"{os.cpu_count()} cores, load averages {load} at the end. {sizes_summary}."
    return f"{table(columns, lines)}\n\n{note}\n"


if __name__ == "__main__":
    typer.run(scaling)
