"""Tracing over a large simulated order: seconds for each question, in one process.

    python benchmarks/trace.py                        # 10^7 exposures
    python benchmarks/trace.py --sequences 500000     # 10^6

The order is simulated: two spans a sequence over documents that are drawn at random, a run of 512
sequences a step with a checkpoint every 500 steps, texts of some 200 bytes made of real lines of code. Lake,
index and answers are real. Each question is asked twice: the first time opens the tables (the page cache is
warm from writing them), the second is what a session pays.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import resource
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.lake import Lake, Provenance, Table
from headwater.sequences.packing import EXPOSURES, exposures_of
from headwater.trace import trace_checkpoint, trace_document, trace_documents, trace_step, trace_text
from headwater.trace.checkpoint import saw
from headwater.trace.selection import ids_where

LENGTH, BATCH, CHECKPOINT_EVERY = 2048, 512, 500
CHUNK = 1 << 18
SPAN = pa.struct(
    {"doc_id": pa.binary(16), "start": pa.int32(), "length": pa.int32(), "source": pa.string(),
     "epoch": pa.int32(), "form": pa.int8()}
)  # fmt: skip
SOURCES = np.array([f"source_{i}" for i in range(50)])


def ids_of(numbers: np.ndarray) -> pa.Array:
    """Ids that look random: two splitmix64 lanes of the document's number."""
    lanes = np.empty((len(numbers), 2), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for lane, seed in enumerate((1, 2)):
            x = (numbers.astype(np.uint64) + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            lanes[:, lane] = x ^ (x >> np.uint64(31))
    return pa.Array.from_buffers(pa.binary(16), len(numbers), [None, pa.py_buffer(lanes.tobytes())])


def lines() -> np.ndarray:
    """Real lines of code to make texts of."""
    root = Path(sysconfig.get_paths()["stdlib"])
    text = "".join(path.read_text(errors="replace") for path in sorted(root.glob("*.py"))[:60])
    return np.array([line for line in text.splitlines() if 20 < len(line) < 100])


def documents(count: int) -> Iterator[pa.RecordBatch]:
    pool, random = pa.array(lines(), pa.large_string()), np.random.default_rng(0)
    for start in range(0, count, CHUNK):
        number = np.arange(start, min(start + CHUNK, count))
        picks = [pool.take(pa.array(random.integers(0, len(pool), len(number)))) for _ in range(4)]
        text = pc.binary_join_element_wise(*picks, pa.scalar("\n", pa.large_string()))
        source = pa.array(SOURCES[number % len(SOURCES)], pa.string())
        yield pa.record_batch({"doc_id": ids_of(number), "text": text, "source": source})


def sequences(count: int, num_documents: int) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(1)
    for start in range(0, count, CHUNK):
        rows = min(CHUNK, count - start)
        number = random.integers(0, num_documents, rows * 2)
        half = np.full(rows * 2, LENGTH // 2, dtype=np.int32)
        spans = pa.StructArray.from_arrays(
            [ids_of(number), pa.array(np.zeros(rows * 2, np.int32)), pa.array(half),
             pa.array(SOURCES[number % len(SOURCES)], pa.string()), pa.array(np.zeros(rows * 2, np.int32)),
             pa.array(np.zeros(rows * 2, np.int8))],
            fields=list(SPAN),
        )  # fmt: skip
        offsets = pa.array(np.arange(0, rows * 2 + 1, 2, dtype=np.int32))
        index = pa.array(np.arange(start, start + rows))
        yield pa.record_batch(
            {"sequence_index": index, "spans": pa.ListArray.from_arrays(offsets, spans, type=pa.list_(SPAN))}
        )


def make(place: Path, num_sequences: int, num_documents: int) -> tuple[Lake, Table]:
    lake = Lake(place)
    first = next(documents(1))
    raw = lake.write("raw.documents", documents(num_documents), schema=first.schema)
    lake.index("raw.documents", "doc_id")
    raw = lake.table("raw.documents")
    narrow = (b.select(["doc_id", "source"]) for b in raw.scan(["doc_id", "source"]))
    book = lake.write(
        "book", narrow, schema=first.schema.remove(1), provenance=Provenance(kind="model", inputs=(raw.ref,))
    )
    kind = pa.schema({"sequence_index": pa.int64(), "spans": pa.list_(SPAN)})
    extra = {"packed_table": book.ref.to_dict(), "tokenizer_id": "-", "sequence_length": LENGTH}
    order = lake.write(
        "sequences", sequences(num_sequences, num_documents), schema=kind,
        provenance=Provenance(kind="pack", inputs=(book.ref,), extra=extra),
    )  # fmt: skip
    scan = order.scan(["sequence_index", "spans"], batch_rows=65_536)
    pairs = (exposures_of(batch) for batch in scan)
    lake.write("exposures", pairs, schema=EXPOSURES, provenance=Provenance(kind="pack", inputs=(order.ref,)))
    lake.index("exposures", "doc_id")
    log(lake, order, num_sequences // BATCH)
    return lake, order


def log(lake: Lake, order: Table, num_steps: int) -> None:
    step = np.arange(1, num_steps + 1)
    own = {"run_id": pa.array(["run"] * num_steps), "attempt": pa.array(np.ones(num_steps, np.int64))}
    columns = {
        **own, "step": pa.array(step), "first_sequence": pa.array((step - 1) * BATCH),
        "count": pa.array(np.full(num_steps, BATCH)), "loss": pa.array(np.ones(num_steps)),
        "tokens": pa.array(np.full(num_steps, BATCH * LENGTH)), "tokens_per_second": pa.array(np.full(num_steps, 1e6)),
    }  # fmt: skip
    lake.write("training_steps", pa.table(columns), provenance=Provenance(kind="log"))
    saved = [
        {"run_id": "run", "attempt": 1, "step": int(s), "path": f"run/step-{s:08d}", "next_sequence": 0}
        for s in step if s % CHECKPOINT_EVERY == 0 or s == num_steps
    ]  # fmt: skip
    lake.write("checkpoints", pa.Table.from_pylist(saved), provenance=Provenance(kind="log"))
    attempt: dict[str, Any] = {
        "run_id": "run", "attempt": 1, "recipe": "simulated", "config": "{}", **order.ref.to_dict(),
        "tokenizer_id": "-", "world_size": 8, "start_step": 0, "bypass": None, "started_at": datetime.now(UTC),
    }  # fmt: skip
    lake.write("training_runs", pa.Table.from_pylist([attempt]), provenance=Provenance(kind="log"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=5_000_000)
    parser.add_argument("--documents", type=int, default=2_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trace-") as place:
        began = time.perf_counter()
        lake, order = make(Path(place), arguments.sequences, arguments.documents)
        made = time.perf_counter() - began
        num = lake.table("exposures").num_rows
        last = arguments.sequences // BATCH
        print(
            f"{arguments.sequences:,} sequences, {num:,} exposures of {arguments.documents:,} documents, "
            f"{last:,} steps; made in {made:.0f} s; {len(os.sched_getaffinity(0))} cores"
        )
        print(
            "versions: "
            + ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("duckdb", "pylance", "polars"))
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        some = ids_of(np.arange(arguments.documents))
        one = some[7].as_py().hex()
        line = str(lines()[11])
        questions: dict[str, Callable[[], Any]] = {
            "--step N": lambda: f"{len(trace_step(lake, last // 2).rows)} spans",
            "--doc ID": lambda: f"{len(trace_document(lake, one).runs[0].steps)} steps",
            "--docs, 1,000 ids": lambda: told(
                trace_documents(lake, some.take(pa.array(np.arange(1000))).sort())
            ),
            "--where, 2 % of documents": lambda: told(
                trace_documents(lake, ids_where(lake, order, "source = 'source_3'"))
            ),
            "--where, 10 % of documents": lambda: told(
                trace_documents(
                    lake,
                    ids_where(
                        lake, order, "source in ('source_3', 'source_4', 'source_5', 'source_6', 'source_7')"
                    ),
                )
            ),
            "--checkpoint first": lambda: (
                f"{trace_checkpoint(lake, f'run@{CHECKPOINT_EVERY}').documents:,} documents"
            ),
            "--checkpoint last": lambda: f"{trace_checkpoint(lake, 'run@last').documents:,} documents",
            "--checkpoint last --doc ID": lambda: f"saw it: {saw(lake, 'run@last', some.slice(7, 1))['saw']}",
            "--text, one line": lambda: text(lake, line),
            "--text, in no document": lambda: text(lake, "this line stands in no document"),
        }
        for name, ask in questions.items():
            taken = []
            for _ in range(2):
                began = time.perf_counter()
                answer = ask()
                taken.append(time.perf_counter() - began)
            print(f"{name:<28}{taken[0]:8.2f} s{taken[1]:8.2f} s   {answer}", flush=True)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"peak resident: {peak / 1e6:.2f} GB while making, {after / 1e6:.2f} GB after all questions")


def told(found: Any) -> str:
    (run,) = found.runs
    clean = run.last_clean_checkpoint
    return (
        f"{run.documents:,} documents in {len(run.steps):,} steps, last clean checkpoint {clean and clean[0]}"
    )


def text(lake: Lake, line: str) -> str:
    found = trace_text(lake, line)
    return f"{found.packed:,} documents, {found.megabytes_per_second:,.0f} MB/s of {found.bytes_scanned / 1e6:,.0f} MB"


if __name__ == "__main__":
    main()
