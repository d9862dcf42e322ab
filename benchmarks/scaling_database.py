"""The PostgreSQL databases of the scaling benchmark, filled by SQL with libraries of any size."""

import json
import random
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg

from concepts import Library
from training.config.recipe import Recipe

OWNED = 50
"""So many concepts each owner has, and a page as well, so that every answer has as many rows whatever the size."""
CAPACITY, WIDTH = 320, 8
"""Stable Diffusion 1.5 at rank 8: 40 blocks, which a library of a million concepts shares 25,000 times over."""
BASE = "f" * 64
MEMORY = "4GB"
"""What PostgreSQL may keep of the tables in memory: all that is asked for here, once `warmed` has read it."""
STEPS = 300

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


def filled(url: str, size: int) -> str:
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


def warmed(database: str) -> None:
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


def table_sizes(database: str, size: int) -> str:
    """The bytes of the tables, with their indices, for each concept."""
    parts = [f"pg_total_relation_size('{name}')::float / {size}" for name in FILL]
    with psycopg.connect(database) as connection:
        found = connection.execute(f"SELECT {', '.join(parts)}".encode()).fetchone()
    assert found
    shares = ", ".join(f"{name} {bytes_each:,.0f}" for name, bytes_each in zip(FILL, found, strict=True))
    return f"{size:,} concepts take {sum(found):,.0f} bytes each ({shares}), without the curves of their trainings"


def curves(database: str) -> str:
    """The bytes of what a training reports for every step, in its result and in its job, as PostgreSQL keeps it."""
    chance = random.Random(0)
    losses, *rates = ([chance.random() for _ in range(STEPS)] for _ in range(4))
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TEMPORARY TABLE curves (details json)")
        for kept in ({"losses": losses, "rates": rates}, losses):
            connection.execute("INSERT INTO curves VALUES (%s)", (json.dumps(kept),))
        sizes = connection.execute("SELECT pg_column_size(details) FROM curves ORDER BY 1 DESC").fetchall()
    return f"The curves of {STEPS} steps take {sizes[0][0]:,} bytes in a result and {sizes[1][0]:,} in a job"


@contextmanager
def postgresql_server(folder: Path) -> Iterator[str]:
    """While open, the URL of a PostgreSQL server (the pgserver wheel) whose databases are in this folder."""
    with warnings.catch_warnings(action="ignore"):
        pgserver: Any = import_module("pgserver")  # which makes its functions as it is imported
    folder.mkdir(parents=True, exist_ok=True)
    server = pgserver.getserver(folder.resolve(), cleanup_mode="stop")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET shared_buffers = '{MEMORY}'".encode())
        pgserver.pg_ctl(["-w", "-m", "fast", "restart"], pgdata=server.pgdata, user=server.system_user)
        yield server.get_uri()
    finally:
        server.cleanup()
