"""Row-wise models: SQL over one document at a time, computed batch by batch and only for new rows.

The query runs over record batches, not over the table: text never meets a join or a sort, memory
follows the batch, and the same task (query, batch) → rows can run on a thread or on a worker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from headwater.engine import ordered_map
from headwater.errors import UsageError
from headwater.lake import Provenance, Table, TableVersion
from headwater.operators import register_all
from headwater.sql import fixed_ids, run, sql_columns, stored_columns

if TYPE_CHECKING:
    from headwater.models import ModelSpec
    from headwater.session import Session

SCAN_SHARE = 0.3
"""Above this share of new rows one scan of the base table beats look-ups by id (FACTS: a tuned scan
ran at 700 MB/s, indexed look-ups at 214 MB/s)."""

ROWS_OF = "_hw_rows"
"""What the base relation of a row-wise model is called while its SQL runs over one batch."""


def build_rows(
    session: Session, spec: ModelSpec, current: Table | None, provenance: Provenance
) -> tuple[TableVersion, str, str]:
    base = session.table(str(spec.rows_of))
    sql = _batch_sql(spec, base)
    columns = _used_columns(sql, base.schema)
    probe = run_batch(sql, _empty(base, columns))
    if "doc_id" not in probe.schema.names or "text_hash" not in probe.schema.names:
        raise UsageError(
            f"row-wise model {spec.name} must return doc_id and text_hash",
            hint="they say which rows are new when the base table grows",
        )
    if current is None or not current.schema.equals(probe.schema):
        rows = _computed(session, sql, base.scan(columns), probe.schema)
        version = session.lake.write(spec.name, rows, provenance=provenance)
        return version, "built", f"{version.num_rows:,} rows"
    new, gone = _difference(base, current)
    if not len(new) and not len(gone):
        version = session.lake.rerecord(spec.name, provenance)
        return version, "unchanged", "no row is new or gone"
    scan = _rows_by_id(base, new, columns) if len(new) else None
    added = _computed(session, sql, scan, probe.schema) if scan is not None else None
    version = session.lake.update(spec.name, add=added, remove=gone, provenance=provenance)
    return version, "extended", f"{len(new):,} new, {len(gone):,} gone, of {version.num_rows:,} rows"


def _batch_sql(spec: ModelSpec, base: Table) -> str:
    """The model's SQL with its base relation replaced by one batch."""
    others = [
        name
        for name in spec.inputs
        if spec.relations.get(name) and name.rpartition(".")[2] != base.short_name
    ]
    if others:
        raise UsageError(
            f"row-wise model {spec.name} also reads {', '.join(others)}",
            hint="a row-wise model reads its base table alone; join in another model",
        )
    spelled = next((spec.relations[n] for n in spec.inputs if n.rpartition(".")[2] == base.short_name), None)
    if spec.sql is None or spelled is None or spelled not in spec.sql:
        raise UsageError(
            f"row-wise model {spec.name} does not select from {base.name}",
            hint=f"select … from source() or ref() of {base.short_name}, as SQL",
        )
    return spec.sql.replace(spelled, ROWS_OF)


def _used_columns(sql: str, schema: pa.Schema) -> list[str]:
    """Columns of the base whose names occur in the SQL (all of them after a ``*``)."""
    if re.search(r"select\s+\*|\.\*|,\s*\*", sql, re.IGNORECASE):
        return list(schema.names)
    return [name for name in schema.names if re.search(rf"\b{re.escape(name)}\b", sql)]


def _empty(base: Table, columns: Sequence[str]) -> pa.RecordBatch:
    schema = pa.schema([base.schema.field(name) for name in columns])
    return pa.RecordBatch.from_pylist([], schema)


def run_batch(
    sql: str, batch: pa.RecordBatch, con: duckdb.DuckDBPyConnection | None = None
) -> pa.RecordBatch:
    """Run a row-wise query over one batch: the task that an engine runs anywhere.

    The batch is the relation ``_hw_rows``; ids come back as 16 bytes.
    """
    if con is None:
        con = _connect()
        try:
            return run_batch(sql, batch, con)
        finally:
            con.close()
    con.register("_hw_batch", batch)
    columns = sql_columns(batch.schema, with_text=True)
    run(con, f"create or replace temp view {ROWS_OF} as select {columns} from _hw_batch")
    described = run(con, f"describe (\n{sql}\n)")
    types = {str(row[0]): str(row[1]) for row in described}
    stored = stored_columns(types)
    table = fixed_ids(con.sql(f"select {stored} from (\n{sql}\n)").to_arrow_reader(65_536), types).read_all()
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def _connect() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(config={"threads": 1})
    register_all(con)
    return con


def _computed(
    session: Session, sql: str, batches: Iterator[pa.RecordBatch], schema: pa.Schema
) -> pa.RecordBatchReader:
    """The query over every batch, by the session's threads, in order."""

    def rows() -> Iterator[pa.RecordBatch]:
        # A connection per worker: one DuckDB connection runs one query at a time.
        idle: list[duckdb.DuckDBPyConnection] = []

        def task(batch: pa.RecordBatch) -> pa.RecordBatch:
            con = idle.pop() if idle else _connect()
            try:
                return run_batch(sql, batch, con)
            finally:
                idle.append(con)

        try:
            for result in ordered_map(task, batches, threads=session.threads):
                if result.num_rows:
                    yield result.cast(schema)
        finally:
            for con in idle:
                con.close()

    return pa.RecordBatchReader.from_batches(schema, rows())


def _difference(base: Table, current: Table) -> tuple[pa.Array, pa.Array]:
    """Ids that are new in ``base`` and ids that ``current`` holds but ``base`` does not, or not so."""
    con = duckdb.connect()
    try:
        con.register("b", base.dataset)
        con.register("c", current.dataset)
        keys = "select doc_id, text_hash from"
        new = con.sql(f"select doc_id from ({keys} b except {keys} c) order by 1").to_arrow_table()
        gone = con.sql(f"select doc_id from ({keys} c except {keys} b) order by 1").to_arrow_table()
    finally:
        con.close()
    return (
        new["doc_id"].combine_chunks().cast(pa.binary(16)),
        gone["doc_id"].combine_chunks().cast(pa.binary(16)),
    )


def _rows_by_id(base: Table, ids: pa.Array, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    if base.has_id_index and len(ids) < SCAN_SHARE * base.num_rows:
        wanted = [name for name in columns if name != "doc_id"]
        yield from base.with_text(ids, wanted)
        return
    # Fixed-width bytes compare as S16 (equal lengths, so numpy's zero padding cannot confuse them).
    sorted_ids = np.frombuffer(ids.buffers()[1], dtype="S16")[ids.offset : ids.offset + len(ids)]
    for batch in base.scan(columns):
        column = batch.column("doc_id")
        values = np.frombuffer(column.buffers()[1], dtype="S16")[column.offset : column.offset + len(column)]
        places = np.searchsorted(sorted_ids, values)
        places[places == len(sorted_ids)] = 0
        yield batch.filter(pa.array(sorted_ids[places] == values))
