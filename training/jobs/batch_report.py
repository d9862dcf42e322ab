"""The results of a batch: its table as CSV and Parquet, and an HTML report."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from concepts.storage import StoragePath, atomic_write, read_file
from training.jobs.batch import Outcome, rows_of
from training.reporting.html_report import Section, as_csv, loss_curves, write_report

SHOWN = 48
"""Maximum number of previews in a report; every concept's own is stored beside its file."""
CURVES = 12
_TYPES = {
    "rank": pa.int64(), "seed": pa.int64(), "steps": pa.int64(), "attempts": pa.int64(), "parameters": pa.int64(),
    "image_alignment": pa.float64(), "text_alignment": pa.float64(), "loss": pa.float64(), "seconds": pa.float64(),
}  # fmt: skip


def write_batch(folder: Path, title: str, found: Sequence[Outcome]) -> dict[str, str]:
    """Writes results.csv, results.parquet and report.html, and returns their absolute paths by ending."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_of(found)
    table, parquet = folder / "results.csv", folder / "results.parquet"
    atomic_write(table, as_csv(rows).encode())
    atomic_write(parquet, _parquet(rows))
    report = write_report(folder / "report.html", title, _sections(found, rows))
    return {"csv": str(table.resolve()), "parquet": str(parquet.resolve()), "html": str(report)}


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Typed columns, so that the tables of two batches have one schema even if all values of a column are missing."""
    schema = pa.schema([(name, _TYPES.get(name, pa.string())) for name in rows[0]])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema), sink)
    return sink.getvalue().to_pybytes()


def _sections(found: Sequence[Outcome], rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    done = [outcome for outcome in found if outcome.state == "done" and outcome.concept.result]
    counted = f"{len(done)} of {len(found)} trainings are done."
    sections = [Section("Methods", f"{counted} Means over the concepts, by method and rank.", rows=_means(rows))]
    for outcome in done[:SHOWN]:
        result = outcome.concept.result
        if result and result.preview:
            score = result.scores.get("image_alignment")
            text = f"{result.adapter}, rank {result.rank}" + ("" if score is None else f", image alignment {score:.3f}")
            sections.append(Section(outcome.run.name, text, [_opened(result.preview)]))
    losses = {o.run.name: o.concept.result.details["losses"] for o in done[:CURVES] if o.concept.result}
    if losses:
        sections.append(Section("Loss", "The loss of every step, smoothed.", [loss_curves(losses)]))
    sections.append(Section("All trainings", "The same table as in results.csv.", rows=rows))
    return sections


def _means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, Any], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["state"] == "done":
            groups.setdefault((row["adapter"], row["rank"]), []).append(row)
    return [
        {"adapter": adapter, "rank": rank, "trained": len(members),
         **{key: _mean([member[key] for member in members]) for key in ("image_alignment", "text_alignment", "loss")}}
        for (adapter, rank), members in groups.items()
    ]  # fmt: skip


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _opened(preview: StoragePath) -> Image.Image:
    """A grid that the studio generated itself, however small."""
    return Image.open(io.BytesIO(read_file(preview))).convert("RGB")
