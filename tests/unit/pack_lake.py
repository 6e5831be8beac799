"""Small lakes to pack: documents of bytes, a tokenizer without merges, a run's log."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from headwater.lake import Lake, Provenance, Table
from headwater.sequences import PackReport, pack
from headwater.tokenizer import train
from headwater.training.run_log import SCHEMAS

LENGTH = 16


@functools.cache
def byte_tokenizer() -> str:
    """A tokenizer.json with one id for each byte, and the special tokens."""
    return train([["a"]], 260)


def doc_id(name: str) -> bytes:
    return xxhash.xxh3_128_digest(name.encode())


def write_base(lake: Lake, lengths: dict[str, int], table: str = "raw.documents") -> None:
    """Documents by name with texts of so many bytes, which all differ."""
    rows = [
        {"doc_id": doc_id(name), "text": (f"{name} " * (length + 1))[:length], "source": name[0]}
        for name, length in lengths.items()
    ]
    schema = pa.schema({"doc_id": pa.binary(16), "text": pa.large_string(), "source": pa.string()})
    lake.write(table, pa.Table.from_pylist(rows, schema=schema))


def curate(
    lake: Lake,
    names: Iterable[str],
    table: str = "python_textbook",
    base: str = "raw.documents",
    extra: tuple[str, ...] = (),
    **columns: list[Any],
) -> None:
    """A curated table of these documents, made from ``base`` and the tables ``extra``."""
    names = list(names)
    rows = {
        "doc_id": pa.array([doc_id(n) for n in names], pa.binary(16)),
        "source": pa.array([n[0] for n in names], pa.string()),
    }
    rows |= {
        key: pa.array(values) if not isinstance(values, pa.Array) else values
        for key, values in columns.items()
    }
    inputs = tuple(lake.table(each).ref for each in (base, *extra))
    lake.write(
        table, pa.table(rows), provenance=Provenance(kind="model", inputs=inputs, extra={"candidates": base})
    )


def mix(
    lake: Lake,
    parts: dict[str, tuple[float, float, list[str]]],
    table: str = "mix",
    inputs: tuple[str, ...] = ("python_textbook",),
    **columns: list[Any],
) -> None:
    """A mixture table: by part its share, its max_epochs and its documents."""
    rows: dict[str, Any] = {
        "doc_id": pa.array([doc_id(n) for _, _, names in parts.values() for n in names], pa.binary(16)),
        "part": pa.array([part for part, (_, _, names) in parts.items() for _ in names], pa.string()),
        "share": pa.array([share for share, _, names in parts.values() for _ in names], pa.float64()),
        "max_epochs": pa.array([cap for _, cap, names in parts.values() for _ in names], pa.float64()),
    }
    rows |= {key: pa.array(values) for key, values in columns.items()}
    refs = tuple(lake.table(each).ref for each in inputs)
    lake.write(table, pa.table(rows), provenance=Provenance(kind="model", inputs=refs))


def small_pack(lake: Lake, table: str = "python_textbook", **options: Any) -> PackReport:
    tokenizer = Path(lake.uri).parent / "tokenizer.json"
    tokenizer.write_text(byte_tokenizer())
    given = {} if "after" in options else {"tokenizer": tokenizer}
    return pack(lake, table, **{"sequence_length": LENGTH, "require_approved": False, **given, **options})


def spans(lake: Lake | None, table: Table | str = "sequences") -> list[dict[str, Any]]:
    """Every span of an order with its ``sequence_index``."""
    opened = lake.table(table) if isinstance(table, str) and lake is not None else table
    rows = opened.to_arrow(["sequence_index", "spans"]).to_pylist()
    return [{**span, "sequence_index": row["sequence_index"]} for row in rows for span in row["spans"]]


def positions(found: Iterable[dict[str, Any]]) -> Counter[tuple[bytes, int, int]]:
    """How often each (document, epoch, token of the closed document) occurs in spans."""
    return Counter(
        (s["doc_id"], s["epoch"], at) for s in found for at in range(s["start"], s["start"] + s["length"])
    )


def log_run(
    lake: Lake,
    run_id: str,
    attempts: list[tuple[Table, int, list[tuple[int, int, str | None]]]],
    checkpoints: Iterable[int] = (),
) -> None:
    """A run's log: for each attempt the table, its start step, and first sequence, count and use of its steps."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    runs, steps, saved = [], [], []
    for number, (table, start, taken) in enumerate(attempts, 1):
        runs.append(
            {
                "run_id": run_id,
                "attempt": number,
                **table.ref.to_dict(),
                "start_step": start,
                "world_size": 1,
                "started_at": at + timedelta(hours=number),
            }
        )
        for i, (first, count, use) in enumerate(taken, start + 1):
            steps.append(
                {
                    "run_id": run_id,
                    "attempt": number,
                    "step": i,
                    "first_sequence": first,
                    "count": count,
                    "loss": 1.0,
                    "tokens": 1,
                    "use": use,
                    "at": at,
                }
            )
        saved += [
            {
                "run_id": run_id,
                "attempt": number,
                "step": s,
                "path": f"step-{s}",
                "next_sequence": 0,
                "at": at,
            }
            for s in checkpoints
            if start < s <= start + len(taken)
        ]
    for name, rows in (("training_runs", runs), ("training_steps", steps), ("checkpoints", saved)):
        schema = SCHEMAS[name]
        full = [{key: row.get(key) for key in schema.names} for row in rows]
        lake.write(
            f"{lake.schema}.{name}",
            pa.Table.from_pylist(full, schema=schema),
            provenance=Provenance(kind="log"),
        )
