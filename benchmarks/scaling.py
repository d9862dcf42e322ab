"""How the library answers with 10,000 and with 1,000,000 concepts of many owners, in a real PostgreSQL.

`python -m benchmarks.scaling` makes the rows in a server of its own (the pgserver wheel; or give the URL of an empty
database), asks each question many times through the library's own calls, and writes benchmarks/results/scaling.md.
"""

import os
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import psycopg
import typer

from benchmarks.common import RESULTS, table
from concepts import Columns, Library, Order
from concepts.storage import atomic_write

OWNERS = 20_000
CAPACITY, WIDTH = 320, 8
"""Stable Diffusion 1.5 at rank 8: 40 blocks, which a library of a million concepts shares 25,000 times over."""
BASE = "f" * 64
BAR_SECONDS, BAR_RATIO = 0.05, 2.0
_TABLES = ("column_uses", "jobs", "results", "columns", "images", "concepts")

FILL = """
INSERT INTO concepts (id, name, key, class_word, created, owner)
    SELECT md5('c' || i), 'Thing-' || md5('n' || i), 'thing-' || md5('n' || i), 'dog',
        timestamp '2026-01-01' + i * interval '1 second', 'owner' || (i * 7919 % {owners})
    FROM generate_series({first}, {last}) i;
INSERT INTO images (id, concept_id, position)
    SELECT md5('p' || i || '-' || k), md5('c' || i), k FROM generate_series({first}, {last}) i, generate_series(0, 4) k;
INSERT INTO columns (id, concept_id, base, space, start, width)
    SELECT md5('b' || i), md5('c' || i), '{base}', 'columns', i % {blocks} * {width}, {width}
    FROM generate_series({first}, {last}) i;
INSERT INTO results (id, concept_id, base, adapter, rank, parameters, scores, details, created)
    SELECT md5('r' || i), md5('c' || i), '{base}', 'spectral_additive', {width}, 2184192,
        '{{"image_alignment": 0.8, "text_alignment": 0.3, "backbone": "none"}}', '{{"losses": [0.5, 0.4]}}',
        timestamp '2026-02-01' + i * interval '1 second'
    FROM generate_series({first}, {last}) i WHERE i % 2 = 0;
INSERT INTO jobs (id, concept_id, owner, base, fingerprint, recipe, state, nice, attempts, max_attempts, step, steps,
        losses, created)
    SELECT md5('j' || i), md5('c' || i), 'owner' || (i * 7919 % {owners}), 'sd15', '{base}', '{{"steps": 300}}',
        CASE WHEN i % 2 = 0 THEN 'done' ELSE 'queued' END, i % 3, 0, 3, 0, 300, '[]',
        timestamp '2026-01-15' + i * interval '1 second'
    FROM generate_series({first}, {last}) i;
"""
COUNT = """
DELETE FROM column_uses;
INSERT INTO column_uses (id, base, space, start, width, holders)
    SELECT min(id), base, space, start, width, count(*) FROM columns GROUP BY base, space, start, width;
"""


class Questions:
    """What a library is asked all day, each of them about other concepts every time."""

    def __init__(self, library: Library, rows: int):
        self._library, self._rows = library, rows
        self._chance, self._new = random.Random(0), iter(range(10**9))

    def page_of_the_list(self) -> Callable[[], object]:
        """50 concepts from anywhere in the list."""
        after = self._library.page(1, owner=self._owner())[0]
        return lambda: self._library.page(50, after)

    def page_of_an_owner(self) -> Callable[[], object]:
        """An owner's first 50 concepts."""
        owner = self._owner()
        return lambda: self._library.page(50, owner=owner)

    def search_by_name(self) -> Callable[[], object]:
        """The first 50 names that begin with some letters."""
        letters = f"thing-{self._chance.randrange(16**3):03x}"
        return lambda: self._library.page(50, search=letters)

    def lease(self) -> Callable[[], object]:
        """The next job."""
        return lambda: self._library.jobs.lease("benchmark")

    def column_allocation(self) -> Callable[[], object]:
        """A block for a concept that has none, where every block is shared by many."""
        name = self._added()
        return lambda: self._library.allocate_columns(name, BASE, WIDTH, CAPACITY)

    def queueing_a_job(self) -> Callable[[], object]:
        """The same, with the job."""
        order = Order(self._added(), "sd15", BASE, {"steps": 300}, Columns(WIDTH, CAPACITY))
        return lambda: self._library.jobs.queue([order])

    def _owner(self) -> str:
        return f"owner{self._chance.randrange(self._rows) * 7919 % OWNERS}"

    def _added(self) -> str:
        name = f"new{next(self._new)}-{self._rows}"
        assert self._library.database
        with psycopg.connect(self._library.database) as connection:
            connection.execute(
                "INSERT INTO concepts (id, name, key, class_word, created) VALUES (md5(%s), %s, %s, 'dog', now())",
                (name, name, name),
            )
        return name


ASKED = ("page_of_the_list", "page_of_an_owner", "search_by_name", "lease", "column_allocation", "queueing_a_job")


def scaling(
    url: Annotated[str | None, typer.Option(help="An empty PostgreSQL database; one is made if unset.")] = None,
    rows: Annotated[list[int], typer.Option(help="How many concepts.")] = [10_000, 1_000_000],  # noqa: B006
    repeats: Annotated[int, typer.Option(help="How often each question is asked.")] = 200,
) -> None:
    """Fill the library to each size, ask, and compare."""
    found: dict[int, dict[str, np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder), url) as database:
        library = Library(Path(folder) / "library", database)
        filled = 0
        for size in sorted(rows):
            seconds, stored = _fill(database, filled, size)
            filled = size
            print(f"{size:,} concepts: {seconds:.0f} s to make, {stored / size:,.0f} bytes each in the database")
            found[size] = _asked(Questions(library, size), repeats)
    text = _document(found, repeats)
    RESULTS.mkdir(parents=True, exist_ok=True)
    atomic_write(RESULTS / "scaling.md", text.encode())
    print(text)


def _fill(database: str, before: int, size: int) -> tuple[float, int]:
    """Adds rows up to this size; the seconds it took, and the bytes that the tables and their indices have."""
    began = perf_counter()
    values = {"owners": OWNERS, "base": BASE, "width": WIDTH, "blocks": CAPACITY // WIDTH}
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(FILL.format(first=before, last=size - 1, **values).encode())
        connection.execute(COUNT.encode())
        connection.execute(b"VACUUM ANALYZE")
        sizes = " + ".join(f"pg_total_relation_size('{name}')" for name in _TABLES)
        row = connection.execute(f"SELECT {sizes}".encode()).fetchone()
    assert row
    return perf_counter() - began, int(row[0])


def _asked(questions: Questions, repeats: int) -> dict[str, np.ndarray]:
    """The seconds of every answer, by question; the first few, which open connections, do not count."""
    taken: dict[str, list[float]] = {name: [] for name in ASKED}
    for number in range(repeats + 5):
        for name in ASKED:
            ask = getattr(questions, name)()
            began = perf_counter()
            ask()
            if number >= 5:
                taken[name].append(perf_counter() - began)
    return {name: np.array(seconds) for name, seconds in taken.items()}


def _document(found: dict[int, dict[str, np.ndarray]], repeats: int) -> str:
    sizes = sorted(found)
    columns = ["question", *(f"{size:,}: median, 95%" for size in sizes), "ratio of the 95%", "holds"]
    lines = []
    for name in ASKED:
        p95 = [float(np.quantile(found[size][name], 0.95)) for size in sizes]
        cells = [f"{np.median(found[s][name]) * 1e3:.1f} ms, {p * 1e3:.1f} ms" for s, p in zip(sizes, p95, strict=True)]
        ratio = p95[-1] / p95[0]
        holds = "yes" if p95[-1] <= BAR_SECONDS and ratio <= BAR_RATIO else "no"
        lines.append([name.replace("_", " "), *cells, f"{ratio:.2f}", holds])
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    note = f"{repeats} answers each, in turns; {os.cpu_count()} cores, load averages {load} at the end."
    return f"{table(columns, lines)}\n\n{note}\n"


@contextmanager
def _server(folder: Path, url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with warnings.catch_warnings(action="ignore"):
        import pgserver
    server: Any = pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


if __name__ == "__main__":
    typer.run(scaling)
