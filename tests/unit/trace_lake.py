"""A lake whose training orders and run log are written row by row, so that a test knows every answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from headwater.lake import Lake, Provenance, Table

LENGTH = 16
SPAN = pa.struct(
    {
        "doc_id": pa.binary(16),
        "start": pa.int32(),
        "length": pa.int32(),
        "source": pa.string(),
        "epoch": pa.int32(),
        "form": pa.int8(),
    }
)
OLD_SPAN = pa.struct([SPAN.field(i) for i in range(4)])

RUNS = {
    "run_id": pa.string(), "attempt": pa.int64(), "recipe": pa.string(), "config": pa.string(),
    "table": pa.string(), "version": pa.int64(), "digest": pa.string(), "tokenizer_id": pa.string(),
    "world_size": pa.int64(), "start_step": pa.int64(), "bypass": pa.string(),
    "started_at": pa.timestamp("us", tz="UTC"),
}  # fmt: skip
STEPS = {
    "run_id": pa.string(), "attempt": pa.int64(), "step": pa.int64(), "first_sequence": pa.int64(),
    "count": pa.int64(), "loss": pa.float64(), "tokens": pa.int64(), "tokens_per_second": pa.float64(),
    "use": pa.string(),
}  # fmt: skip
CHECKPOINTS = {
    "run_id": pa.string(), "attempt": pa.int64(), "step": pa.int64(), "path": pa.string(),
    "next_sequence": pa.int64(),
}  # fmt: skip

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def doc(name: str) -> bytes:
    return xxhash.xxh3_128_digest(name.encode())


def text_of(name: str) -> str:
    return f"The text of document {name}.\nIts last line is {name * 3}.\n"


def write_documents(lake: Lake, names: list[str], texts: dict[str, str] | None = None) -> None:
    """``raw.documents`` and the curated ``book`` over them, which holds no text."""
    held = {name: (texts or {}).get(name, text_of(name)) for name in names}
    ids = pa.array([doc(name) for name in names], pa.binary(16))
    sources = pa.array(["web" if name.startswith("w") else "code" for name in names])
    raw = {
        "doc_id": ids,
        "text": pa.array(list(held.values()), pa.large_string()),
        "source": sources,
        "path": pa.array([f"{name}.txt" for name in names]),
    }
    made = lake.write("raw.documents", pa.table(raw))
    book = pa.table(
        {"doc_id": ids, "source": sources, "words": pa.array([len(t.split()) for t in held.values()])}
    )
    lake.write("book", book, provenance=Provenance(kind="model", inputs=(made.ref,)))


def write_order(
    lake: Lake, rows: list[list[tuple[Any, ...]]], name: str = "sequences", *, old: bool = False
) -> Table:
    """An order of ``(document, start, length, epoch, form)`` spans, and its exposures."""
    kind = OLD_SPAN if old else SPAN
    spans = [
        [
            {"doc_id": doc(d), "start": s, "length": n, "source": "web" if d.startswith("w") else "code",
             **({} if old else {"epoch": e, "form": f})}
            for d, s, n, e, f in row
        ]
        for row in rows
    ]  # fmt: skip
    columns = {
        "sequence_index": pa.array(range(len(rows)), pa.int64()),
        "tokens": pa.array([[i % 200] * LENGTH for i in range(len(rows))], pa.list_(pa.uint16(), LENGTH)),
        "spans": pa.array(spans, pa.list_(kind)),
    }
    book = lake.table("book").ref
    extra = {"packed_table": book.to_dict(), "tokenizer_id": "t" * 32, "sequence_length": LENGTH}
    order = lake.write(
        name, pa.table(columns), provenance=Provenance(kind="pack", inputs=(book,), extra=extra)
    )
    pairs = sorted({(span["doc_id"], i) for i, row in enumerate(spans) for span in row})
    exposures = {
        "doc_id": pa.array([d for d, _ in pairs], pa.binary(16)),
        "sequence_index": pa.array([i for _, i in pairs], pa.int64()),
    }
    back = "exposures" if name == "sequences" else f"{name}_exposures"
    lake.write(back, pa.table(exposures), provenance=Provenance(kind="pack", inputs=(order.ref,)))
    lake.index(back, "doc_id")
    return lake.table(name, version=order.version)


def log_attempt(
    lake: Lake,
    order: Table,
    attempt: int,
    start: int,
    steps: list[tuple[int, int, int, str | None]],
    checkpoints: tuple[int, ...] = (),
    *,
    run_id: str = "r",
    world_size: int = 2,
    speed: float | None = 100.0,
) -> None:
    """``steps`` are ``(step, first_sequence, count, use)``."""
    row = {
        "run_id": run_id, "attempt": attempt, "recipe": "tiny", "config": '{"seed": 0}', **order.ref.to_dict(),
        "tokenizer_id": "t" * 32, "world_size": world_size, "start_step": start, "bypass": None,
        "started_at": BEGAN + timedelta(hours=attempt + len(run_id)),
    }  # fmt: skip
    append(lake, "training_runs", [row], RUNS)
    rows = [
        {"run_id": run_id, "attempt": attempt, "step": s, "first_sequence": f, "count": n, "loss": 1.0,
         "tokens": n * LENGTH, "tokens_per_second": speed, "use": use}
        for s, f, n, use in steps
    ]  # fmt: skip
    append(lake, "training_steps", rows, STEPS)
    saved = [
        {
            "run_id": run_id,
            "attempt": attempt,
            "step": s,
            "path": f"{run_id}/step-{s:08d}",
            "next_sequence": 0,
        }
        for s in checkpoints
    ]
    append(lake, "checkpoints", saved, CHECKPOINTS)


def append(lake: Lake, name: str, rows: list[dict[str, Any]], columns: dict[str, pa.DataType]) -> None:
    if rows:
        schema = pa.schema(columns)
        known = [{k: row.get(k) for k in schema.names} for row in rows]
        lake.write(
            name, pa.Table.from_pylist(known, schema=schema), mode="append", provenance=Provenance(kind="log")
        )


def steps(first: int, last: int, *, size: int = 1, skip: int = 0) -> list[tuple[int, int, int, str | None]]:
    """Steps ``first`` to ``last``, one after another over the order, the first at sequence ``skip``."""
    return [(s, skip + (s - first) * size, size, "trained") for s in range(first, last + 1)]


def make(place: Path, names: list[str], texts: dict[str, str] | None = None) -> Lake:
    lake = Lake(place)
    write_documents(lake, names, texts)
    return lake
