"""How the library answers with 10,000 and with 1,000,000 concepts of many owners, in a real PostgreSQL.

`python -m benchmarks.scaling` makes the rows in a server of its own (the pgserver wheel), a database for each size,
asks each question many times through the library's own calls, the sizes in turns, and writes
benchmarks/results/scaling.md. With `--server FOLDER` the databases stay there, and another run finds them filled.
"""

import json
import os
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from math import log
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import psycopg
import typer

from benchmarks.common import RESULTS
from concepts import Columns, Library, Order
from concepts.storage import atomic_write
from concepts.tables import new_id
from training.config.recipe import Recipe
from training.reporting.html_report import table

OWNED = 50
"""So many concepts each owner has, and a page as well, so that every answer has as many rows whatever the size."""
CAPACITY, WIDTH = 320, 8
"""Stable Diffusion 1.5 at rank 8: 40 blocks, which a library of a million concepts shares 25,000 times over."""
BASE = "f" * 64
BAR_SECONDS, BAR_RATIO = 0.05, 2.0
MEMORY = "4GB"
"""What PostgreSQL may keep of the tables in memory: all that is asked for here, once `_warmed` has read it."""
STEPS = 300
WARMING = 5

FILL = {
    "concepts": """
INSERT INTO concepts (id, name, key, class_word, created, owner)
    SELECT md5('c' || i), 'Thing-' || md5('n' || i), 'thing-' || md5('n' || i), 'dog',
        timestamp '2026-01-01' + i * interval '1 second', 'owner' || (i::bigint * 7919 % {owners})
    FROM generate_series(0, {last}) i
    """,
    "images": """
INSERT INTO images (id, concept_id, position)
    SELECT md5('p' || i || '-' || k), md5('c' || i), k FROM generate_series(0, {last}) i, generate_series(0, 4) k
    """,
    "columns": """
INSERT INTO columns (id, concept_id, base, space, start, width)
    SELECT md5('b' || i), md5('c' || i), '{base}', 'columns', i % {blocks} * {width}, {width}
    FROM generate_series(0, {last}) i
    """,
    "results": """
INSERT INTO results (id, concept_id, base, adapter, rank, parameters, scores, details, created)
    SELECT md5('r' || i), md5('c' || i), '{base}', 'spectral_additive', {width}, 2184192,
        '{{"image_alignment": 0.8, "text_alignment": 0.3, "backbone": "none"}}', '{{}}',
        timestamp '2026-02-01' + i * interval '1 second'
    FROM generate_series(0, {last}) i WHERE i % 2 = 0
    """,
    "jobs": """
INSERT INTO jobs (id, concept_id, owner, base, fingerprint, recipe, state, nice, attempts, max_attempts, step, steps,
        losses, created)
    SELECT md5('j' || i), md5('c' || i), 'owner' || (i::bigint * 7919 % {owners}), 'sd15', '{base}', '{recipe}',
        CASE WHEN i % 2 = 0 THEN 'done' ELSE 'queued' END, i % 3, 0, 3, 0, {steps},
        '[]',
        timestamp '2026-01-15' + i * interval '1 second'
    FROM generate_series(0, {last}) i
    """,
    "column_uses": """
INSERT INTO column_uses (id, base, space, start, width, holders)
    SELECT min(id), base, space, start, width, count(*) FROM columns GROUP BY base, space, start, width
    """,
}
"""How each table is filled, those that others name first."""


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
    repeats: Annotated[int, typer.Option(help="How often each question is asked; 0 only makes the rows.")] = 200,
) -> None:
    """Make a library of each size, ask, and compare."""
    sizes = sorted(rows)
    with tempfile.TemporaryDirectory() as folder, _server(server or Path(folder) / "server") as url:
        made = {size: _filled(url, size) for size in sizes}
        sizes_summary = ". ".join([*(_table_sizes(made[size], size) for size in sizes), _curves(made[sizes[0]])])
        print(sizes_summary)
        if not repeats:
            return
        for database in made.values():
            _warmed(database)
        asked = {size: Questions(Library(Path(folder) / str(size), made[size]), size) for size in sizes}
        found = _answers(asked, repeats)
    text = _document(found, repeats, sizes_summary)
    RESULTS.mkdir(parents=True, exist_ok=True)
    atomic_write(RESULTS / "scaling.md", text.encode())
    print(text)


def _filled(url: str, size: int) -> str:
    """The URL of a database with a library of this size; what is not there yet is made, a table at a time."""
    place, _, query = url.partition("?")
    name = f"scaling_{size}"
    made = f"{place.rpartition('/')[0]}/{name}?{query}"
    values = {"owners": size // OWNED, "base": BASE, "width": WIDTH, "blocks": CAPACITY // WIDTH, "last": size - 1,
              "recipe": json.dumps(Recipe().model_dump(mode="json")), "steps": STEPS}  # fmt: skip
    with psycopg.connect(url, autocommit=True) as server:
        if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            server.execute(f"CREATE DATABASE {name}".encode())
    with tempfile.TemporaryDirectory() as folder:
        Library(folder, made)
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # the rows fit: no need to look each of them up
        empty = [each for each in FILL if not connection.execute(f"SELECT 1 FROM {each} LIMIT 1".encode()).fetchone()]
        for each in empty:
            connection.execute(FILL[each].format(**values).encode())
            print(f"{each} of {size:,} concepts made", flush=True)
        connection.execute(b"VACUUM ANALYZE")
    return made


def _warmed(database: str) -> None:
    """Reads tables and indices into PostgreSQL's memory, where a server at work has them."""
    indexed = ["images.concept_id", "columns.concept_id", "results.concept_id"]
    indexed += ["concepts.id", "concepts.key", "concepts.owner", "concepts.created"]
    with psycopg.connect(database, autocommit=True) as connection:
        for table in ("concepts", "images", "columns", "results"):
            connection.execute("SET enable_indexonlyscan = off")
            connection.execute(f"SELECT count(*) FROM {table}".encode())
        connection.execute("RESET enable_indexonlyscan")
        connection.execute("SET enable_seqscan = off")
        for name in indexed:
            where = "WHERE removed IS NULL" if name in ("concepts.owner", "concepts.created") else ""
            found, _, column = name.partition(".")
            ordered = f"SELECT {column} FROM {found} {where} ORDER BY {column} OFFSET 0"
            connection.execute(f"SELECT count(*) FROM ({ordered}) AS ordered".encode())


def _table_sizes(database: str, size: int) -> str:
    """The bytes of the tables, with their indices, for each concept."""
    parts = [f"pg_total_relation_size('{name}')::float / {size}" for name in FILL]
    with psycopg.connect(database) as connection:
        found = connection.execute(f"SELECT {', '.join(parts)}".encode()).fetchone()
    assert found
    shares = ", ".join(f"{name} {bytes_each:,.0f}" for name, bytes_each in zip(FILL, found, strict=True))
    return f"{size:,} concepts take {sum(found):,.0f} bytes each ({shares}), without the curves of their trainings"


def _curves(database: str) -> str:
    """The bytes of what a training reports for every step, in its result and in its job, as PostgreSQL keeps it."""
    chance = random.Random(0)
    losses, *rates = ([chance.random() for _ in range(STEPS)] for _ in range(4))
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TEMPORARY TABLE curves (details json)")
        for kept in ({"losses": losses, "rates": rates}, losses):
            connection.execute("INSERT INTO curves VALUES (%s)", (json.dumps(kept),))
        sizes = connection.execute("SELECT pg_column_size(details) FROM curves ORDER BY 1 DESC").fetchall()
    return f"The curves of {STEPS} steps take {sizes[0][0]:,} bytes in a result and {sizes[1][0]:,} in a job"


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
    columns = ["question", *(f"{size:,}: median, 95%" for size in sizes), "ratio of the 95%", "holds"]
    lines = []
    for name in ASKED:
        p95 = [float(np.quantile(found[size][name], 0.95)) for size in sizes]
        cells = [f"{np.median(found[s][name]) * 1e3:.1f} ms, {p * 1e3:.1f} ms" for s, p in zip(sizes, p95, strict=True)]
        ratio = p95[-1] / p95[0]
        holds = "yes" if p95[-1] <= BAR_SECONDS and ratio <= BAR_RATIO else "no"
        lines.append([name.replace("_", " "), *cells, f"{ratio:.2f}", holds])
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    note = f"{repeats} answers each, in turns, from a PostgreSQL with {MEMORY} of shared buffers, warm; "
    note += f"{os.cpu_count()} cores, load averages {load} at the end. {sizes_summary}."
    return f"{table(columns, lines)}\n\n{note}\n"


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    with warnings.catch_warnings(action="ignore"):
        pgserver: Any = import_module("pgserver")  # which makes its functions as it is imported
    folder.mkdir(parents=True, exist_ok=True)
    server = pgserver.get_server(folder.resolve(), cleanup_mode="stop")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET shared_buffers = '{MEMORY}'".encode())
        pgserver.pg_ctl(["-w", "-m", "fast", "restart"], pgdata=server.pgdata, user=server.system_user)
        yield server.get_uri()
    finally:
        server.cleanup()


if __name__ == "__main__":
    typer.run(scaling)
