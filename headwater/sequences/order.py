"""The global order: documents by a seeded hash of their id, ties by the id. DuckDB sees ids only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from headwater.operators import operator

if TYPE_CHECKING:
    from headwater.lake import Table
    from headwater.sequences.source import Source

ORDER_BATCH_ROWS = 2_048
TAKE_TOKENS = 4 << 20
"""Tokens fetched at once: 8 to 16 MiB, enough for takes of hundreds of documents."""

SHUFFLE_SEED = 0
"""Seed of the sample that a tokenizer is trained on: fixed, so that another order keeps the tokenizer."""


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


@contextmanager
def _query(**readers: pa.RecordBatchReader) -> Iterator[duckdb.DuckDBPyConnection]:
    con = duckdb.connect(":memory:")
    try:
        for name, reader in readers.items():
            con.register(name, reader)
        yield con
    finally:
        con.close()


def _fixed_ids(batch: pa.RecordBatch) -> pa.RecordBatch:
    """DuckDB hands ids back as variable binary: give them their stored type."""
    return batch.set_column(0, "doc_id", batch["doc_id"].cast(pa.binary(16)))


def ids_to_encode(table: Table, tokens: Table | None, seed: int) -> Iterator[pa.RecordBatch]:
    """Every document of ``table`` in order: ``doc_id`` and ``num_tokens``, null where not encoded yet."""
    known = tokens.scan(["doc_id", "num_tokens"]) if tokens else _nothing_known()
    with _query(wanted=hashed(table.scan(["doc_id"]), seed), known=known) as con:
        rows = con.sql(
            "select w.doc_id, k.num_tokens from wanted w left join known k using (doc_id) "
            "order by w.h, w.doc_id"
        )
        yield from map(_fixed_ids, rows.to_arrow_reader(ORDER_BATCH_ROWS))


def ids_gone(table: Table, tokens: Table) -> pa.Array:
    """Documents that have tokens but are no longer in ``table``."""
    with _query(wanted=table.scan(["doc_id"]), known=tokens.scan(["doc_id"])) as con:
        rows = con.sql("select doc_id from known anti join wanted using (doc_id)").to_arrow_table()
    return rows["doc_id"].cast(pa.binary(16)).combine_chunks()


def _nothing_known() -> pa.RecordBatchReader:
    return pa.schema({"doc_id": pa.binary(16), "num_tokens": pa.int32()}).empty_table().to_reader()


class Order:
    """The documents of one pack, in order; holds ids in DuckDB, which spills when it must."""

    def __init__(self, con: duckdb.DuckDBPyConnection, tokens: Table) -> None:
        self._con = con
        self._tokens = tokens
        counted = con.sql("select count(*), coalesce(sum(num_tokens + 1), 0)::bigint from ordered").fetchall()
        self.num_documents, self.num_tokens = counted[0]

    def documents(self, *, with_tokens: bool) -> Iterator[pa.RecordBatch]:
        """``doc_id, source, num_tokens`` (and ``tokens``) of every document, in order."""
        rows = self._con.sql("select doc_id, source, num_tokens, position from ordered order by h, doc_id")
        for batch in map(_fixed_ids, rows.to_arrow_reader(ORDER_BATCH_ROWS)):
            for part in _by_tokens(batch) if with_tokens else [batch]:
                yield _with_tokens(part, self._tokens) if with_tokens else part


@contextmanager
def open_order(source: Source, tokens: Table, seed: int, limit_tokens: int | None) -> Iterator[Order]:
    """Sort the documents of ``source`` that have tokens; the first ``limit_tokens`` tokens' worth of them."""
    where, columns = source.source_columns
    column = "any_value(w.source)" if "source" in columns else "''"
    limit = (
        f"qualify coalesce(sum(num_tokens + 1) over (order by h, doc_id rows between unbounded preceding "
        f"and 1 preceding), 0) < {int(limit_tokens)}"
        if limit_tokens is not None
        else ""
    )
    found = hashed(tokens.scan(["doc_id", "num_tokens"]), seed)
    readers = {"found": found, "kept": source.table.scan(["doc_id"]), "w": where.scan(columns)}
    with _query(**readers) as con:
        con.execute(
            f"""create temp table ordered as
            with live as (select * from found semi join kept using (doc_id)),
            first as (select * from live {limit})
            select doc_id, h, position, num_tokens, {column} as source
            from first join w using (doc_id) group by all"""
        )
        yield Order(con, tokens)


def _by_tokens(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    ends = np.cumsum(batch["num_tokens"].to_numpy().astype(np.int64))
    start, before = 0, 0
    while start < batch.num_rows:
        end = max(int(np.searchsorted(ends, before + TAKE_TOKENS, side="right")), start + 1)
        yield batch.slice(start, end - start)
        start, before = end, int(ends[end - 1])


def _with_tokens(batch: pa.RecordBatch, tokens: Table) -> pa.RecordBatch:
    """Fetch by position, sorted (Lance reads forward), and put back in order."""
    positions = batch["position"].to_numpy()
    order = np.argsort(positions)
    taken = tokens.dataset.take(positions[order], columns=["tokens"])["tokens"].combine_chunks()
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return batch.append_column("tokens", taken.take(pa.array(back)))
