"""The training order as Parquet files: every sequence, its spans, and the step that trained on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.digest import ContentDigest
from headwater.trace.orders import SPAN_BATCH_ROWS

if TYPE_CHECKING:
    from headwater.lake import Table

FILE_ROWS = 1 << 20
"""Sequences in a file: some 50 MB of spans."""

ORDER_FILE = "order.json"
IDS = ("sequence_index", "spans")
"""Columns that say which documents, and nothing of their text."""


def write_order(
    folder: Path,
    order: Table,
    steps: pa.Table,
    *,
    with_tokens: bool,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write ``part-*.parquet`` and ``order.json``; returns what the latter says.

    Parameters
    ----------
    steps: the run's trained steps; column ``step`` names the first that holds a sequence, null where none
        does.
    with_tokens: the token column as well, where the order has one. Tokens are text.
    """
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    names = [n for n in order.schema.names if with_tokens or n in IDS]
    schema = pa.schema([*(order.schema.field(n) for n in names), pa.field("step", pa.int64())])
    digest, writer, number, done = ContentDigest(), None, 0, 0
    mapped = StepOf(steps.filter(pc.field("digest") == order.digest))
    try:
        for batch in order.scan(names, batch_rows=SPAN_BATCH_ROWS):
            if writer is None or done >= FILE_ROWS * number:
                if writer is not None:
                    writer.close()
                writer = pq.ParquetWriter(folder / f"part-{number:05d}.parquet", schema, compression="zstd")
                number += 1
            digest.add(batch)
            step = mapped(batch["sequence_index"])
            writer.write_batch(pa.record_batch([*batch.columns, step], schema=schema))
            done += batch.num_rows
            if progress:
                progress(done, order.num_rows)
    finally:
        if writer is not None:
            writer.close()
    facts = {
        **order.ref.to_dict(),
        "num_sequences": order.num_rows,
        "columns": names,
        "order_digest": digest.hex(),
        "complete": set(names) == set(order.schema.names),
        "inputs": [ref.to_dict() for ref in order.provenance.inputs],
        "packing": dict(order.provenance.extra),
    }
    text = json.dumps(facts, indent=2, sort_keys=True) + "\n"
    (folder / ORDER_FILE).write_text(text, encoding="utf-8")
    return facts


class StepOf:
    """The first trained step of a sequence, by arithmetic on the steps' intervals."""

    def __init__(self, steps: pa.Table) -> None:
        columns = (steps[name].to_numpy() for name in ("first_sequence", "count", "step"))
        first, count, step = (np.asarray(column, dtype=np.int64) for column in columns)
        order = np.lexsort((step, first))
        self._first, self._step = first[order], step[order]
        self._stop = (first + count)[order]
        # Of repeated batches an interval may reach past the next: this only ever grows.
        self._reach = np.maximum.accumulate(self._stop) if len(order) else self._stop

    def __call__(self, sequences: pa.Array) -> pa.Array:
        """The steps of sequences that ascend, null where none holds one."""
        index = np.asarray(sequences.to_numpy(), dtype=np.int64)
        never = np.iinfo(np.int64).max
        found: npt.NDArray[np.int64] = np.full(len(index), never, dtype=np.int64)
        if len(index):
            low = int(np.searchsorted(self._reach, index[0], side="right"))
            high = int(np.searchsorted(self._first, index[-1], side="right"))
            for i in range(low, high):
                a, b = np.searchsorted(index, (self._first[i], self._stop[i]))
                np.minimum(found[a:b], self._step[i], out=found[a:b])
        return pa.array(found, pa.int64(), mask=found == never)


def order_files(folder: Path) -> list[Path]:
    """The Parquet files of an order, in its order."""
    return sorted(folder.glob("part-*.parquet"))


def read_order(folder: Path) -> Iterator[pa.RecordBatch]:
    """The released order, streamed."""
    import pyarrow.parquet as pq

    for path in order_files(folder):
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=SPAN_BATCH_ROWS)


def table_digest(order: Table, columns: list[str]) -> str:
    """The digest of some columns of the lake's table, to hold against a released order."""
    return ContentDigest.of(order.scan(columns, batch_rows=SPAN_BATCH_ROWS)).hex()
