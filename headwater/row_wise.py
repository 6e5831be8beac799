"""Row-wise models: SQL over one document at a time, computed batch by batch and only for new rows.

The query runs over record batches, not over the table: text never meets a join or a sort, memory
follows the batch, and the same query runs on a thread of this process or as a task on a worker
(``headwater.row_tasks``). Either way one commit publishes the rows, in the order of the base table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from headwater.engine import ordered_map
from headwater.errors import LakeError, UnknownName, UsageError
from headwater.lake import Lake, Pieces, Provenance, Table, TableVersion
from headwater.lake.table import TEXT_COLUMN
from headwater.row_tasks import ROWS_OF, connect, rows_by_id, run_batch, tasks
from headwater.row_tasks import run as run_task

if TYPE_CHECKING:
    from headwater.models import ModelSpec
    from headwater.session import Session

LOCAL_ROWS = 4_096
"""Up to this many rows are computed here even when there is a cluster: its round trips would cost more."""


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
    changes = None
    if current is not None and current.schema.equals(probe.schema):
        changes = _changes(session.lake, base, current, columns)
    if changes is None:
        rows = _computed(session, spec, sql, base, columns, probe.schema)
        version = session.lake.write(spec.name, rows, provenance=provenance)
        return version, "built", f"{version.num_rows:,} rows"
    new, gone = changes
    if not len(new) and not len(gone):
        version = session.lake.rerecord(spec.name, provenance)
        return version, "unchanged", "no row is new or gone"
    added = _computed(session, spec, sql, base, columns, probe.schema, only=new) if len(new) else None
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


def _computed(
    session: Session,
    spec: ModelSpec,
    sql: str,
    base: Table,
    columns: Sequence[str],
    schema: pa.Schema,
    *,
    only: pa.Array | None = None,
) -> pa.RecordBatchReader | Pieces:
    """The query over every row of ``base``, or over those whose ids are in ``only`` (sorted)."""
    num_rows = base.num_rows if only is None else len(only)
    if session.engine is None or num_rows <= LOCAL_ROWS:
        batches = base.scan(columns) if only is None else rows_by_id(base, only, columns)
        return _by_threads(session, sql, batches, schema)
    work, shared = tasks(
        session.lake,
        base,
        sql=sql,
        columns=columns,
        schema=schema,
        target=spec.name,
        only=only,
        workers=session.engine.num_workers,
    )
    return Pieces(schema, session.engine.map(run_task, work, shared=shared))


def _by_threads(
    session: Session, sql: str, batches: Iterator[pa.RecordBatch], schema: pa.Schema
) -> pa.RecordBatchReader:
    """The query over every batch, by the session's threads, in order."""

    def rows() -> Iterator[pa.RecordBatch]:
        # A connection per worker: one DuckDB connection runs one query at a time.
        idle: list[duckdb.DuckDBPyConnection] = []

        def task(batch: pa.RecordBatch) -> pa.RecordBatch:
            con = idle.pop() if idle else connect()
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


def _changes(
    lake: Lake, base: Table, current: Table, columns: Sequence[str]
) -> tuple[pa.Array, pa.Array] | None:
    """Ids to compute, and ids whose rows go, sorted; None when only a rebuild can tell.

    A row is compared by its id and text hash with what ``current`` holds, and by the other columns that the
    model reads with the version of the base that ``current`` was made from.
    """
    others = [name for name in columns if name not in ("doc_id", "text_hash", TEXT_COLUMN)]
    before = _base_of(lake, base, current)
    if others and before is None:
        return None
    con = duckdb.connect()
    try:
        con.register("b", base.dataset)
        con.register("c", current.dataset)
        keys = "select doc_id, text_hash from"
        new = f"select doc_id from ({keys} b except {keys} c)"
        gone = f"select doc_id from ({keys} c except {keys} b)"
        if others and before is not None and before.digest != base.digest:
            con.register("a", before.dataset)
            now, then = (", ".join(f'{side}."{name}"' for name in others) for side in ("b", "a"))
            other = f"select b.doc_id from b join a using (doc_id) where ({now}) is distinct from ({then})"
            new, gone = f"{new} union {other}", f"{gone} union {other}"
        return _sorted_ids(con, new), _sorted_ids(con, gone)
    finally:
        con.close()


def _base_of(lake: Lake, base: Table, current: Table) -> Table | None:
    """The exact version of the base table that ``current`` was computed from, while it exists."""
    for ref in current.provenance.inputs:
        if ref.name == base.name:
            try:
                found = lake.table(ref.name, version=ref.version)
            except (UnknownName, LakeError):  # cleaned up
                return None
            return found if found.digest == ref.digest else None
    return None


def _sorted_ids(con: duckdb.DuckDBPyConnection, query: str) -> pa.Array:
    found = con.sql(f"select doc_id from ({query}) order by 1").to_arrow_table()
    return found["doc_id"].combine_chunks().cast(pa.binary(16))
