"""The DuckDB of a pack: document ids and small numbers only. It spills to disk when it must."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import numpy as np
import pyarrow as pa

from headwater.operators import get, operator

MEMORY_LIMIT = "1GB"
ID_BATCH_ROWS = 2_048

KNOWN = pa.schema({"doc_id": pa.binary(16), "num_tokens": pa.int32()})


@contextmanager
def database(**readers: pa.RecordBatchReader) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own with the readers registered and the SQL function ``seeded_hash``."""
    with tempfile.TemporaryDirectory(prefix="headwater-pack-") as spill:
        con = duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill})
        try:
            get("seeded_hash").register(con)
            for name, reader in readers.items():
                con.register(name, reader)
            yield con
        finally:
            con.close()


def keep(con: duckdb.DuckDBPyConnection, table: str, query: str, **readers: pa.RecordBatchReader) -> None:
    """Make ``table`` from ``query``, over readers that this call alone sees. Cursors see the table too."""
    for name, reader in readers.items():
        con.register(name, reader)
    try:
        con.execute(f"create or replace table {table} as {query}").fetchall()
    finally:
        for name in readers:
            con.unregister(name)


def hashed(reader: pa.RecordBatchReader, seed: int) -> pa.RecordBatchReader:
    """The batches with a column ``h``, the seeded hash of ``doc_id``, and ``position``, the row number."""
    seeded_hash = operator("seeded_hash")
    schema = reader.schema.append(pa.field("h", pa.uint64())).append(pa.field("position", pa.int64()))

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in reader:
            rows = pa.array(np.arange(start, start + batch.num_rows))
            hashes = seeded_hash(batch["doc_id"], seed=seed)
            yield pa.record_batch([*batch.columns, hashes, rows], schema=schema)
            start += batch.num_rows

    return pa.RecordBatchReader.from_batches(schema, batches())


def fixed_ids(batch: pa.RecordBatch) -> pa.RecordBatch:
    """DuckDB hands ids back as variable binary: give them their stored type."""
    at = batch.schema.get_field_index("doc_id")
    return batch.set_column(at, "doc_id", batch["doc_id"].cast(pa.binary(16)))


def nothing_known() -> pa.RecordBatchReader:
    """No documents with tokens."""
    return KNOWN.empty_table().to_reader()


def quoted(name: str) -> str:
    """A column's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
