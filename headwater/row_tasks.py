"""One piece of a row-wise model as a task: (query, table version, rows) → files of the model's table.

A task is small, names everything it reads by exact version, and can run again anywhere: what it writes is
in no table until the process that made the tasks publishes all of them in one commit.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from headwater.lake import Lake, Piece, Table
from headwater.operators import register_all, registered
from headwater.sql import fixed_ids, sql_columns, stored_columns
from headwater.sql import run as execute

ROWS_OF = "_hw_rows"
"""What the base relation of a row-wise model is called while its SQL runs over one batch."""

SCAN_SHARE = 0.3
"""Above this share of wanted rows one scan of the base table beats look-ups by id (pylance 14: a tuned scan
ran at 700 MB/s, indexed look-ups at 214 MB/s)."""

TASKS_PER_WORKER = 8
"""So that the last task of one worker is short beside the whole."""
MIN_TASK_ROWS, MAX_TASK_ROWS = 2_048, 65_536


@dataclass(frozen=True, kw_only=True)
class RowsTask:
    """Which rows of which table version, through which query, into files of which table."""

    lake: Lake
    base: str
    version: int
    sql: str
    """Reads :data:`ROWS_OF`."""
    columns: tuple[str, ...]
    target: str
    schema: pa.Schema
    """Of the target."""
    adding: bool
    """The rows join the target's present ones."""
    fragment: int = 0
    start: int = 0
    count: int = 0
    """A range of one fragment's rows; with ``ids``, look-ups by id instead."""
    ids: pa.Array | None = None
    operators: tuple[str, ...] = ()
    """Modules that register the user's own operators."""


def tasks(
    lake: Lake,
    base: Table,
    *,
    sql: str,
    columns: Sequence[str],
    schema: pa.Schema,
    target: str,
    only: pa.Array | None,
    workers: int,
) -> tuple[list[RowsTask], pa.Array | None]:
    """The tasks that compute all rows of ``base``, or those in ``only``, in the table's order.

    Also what :func:`run` takes beside each task: the wanted ids, when they are picked out of a scan.
    """
    common = RowsTask(
        lake=lake,
        base=base.name,
        version=base.version,
        sql=sql,
        columns=tuple(columns),
        target=target,
        schema=schema,
        adding=only is not None,
        operators=_operator_modules(),
    )
    wanted = base.num_rows if only is None else len(only)
    size = max(MIN_TASK_ROWS, min(MAX_TASK_ROWS, -(-wanted // (workers * TASKS_PER_WORKER))))
    if only is not None and _by_look_up(base, len(only)):
        return [_with(common, ids=only.slice(start, size)) for start in range(0, len(only), size)], None
    ranges = [
        _with(common, fragment=fragment, start=start, count=min(size, rows - start))
        for fragment, rows in base.fragments()
        for start in range(0, rows, size)
    ]
    return ranges, only


def run(task: RowsTask, only: pa.Array | None = None) -> Piece:
    """Compute a task and write its rows, a batch in memory at a time."""
    for module in task.operators:
        importlib.import_module(module)
    base = task.lake.table(task.base, task.version)
    if task.ids is not None:
        batches = rows_by_id(base, task.ids, task.columns)
    else:
        batches = base.scan_range(task.fragment, task.start, task.count, task.columns)
        batches = batches if only is None else _picked(batches, only)
    con = connect()
    try:
        rows = (run_batch(task.sql, batch, con).cast(task.schema) for batch in batches)
        return task.lake.write_piece(task.target, rows, adding=task.adding, schema=task.schema)
    finally:
        con.close()


def run_batch(
    sql: str, batch: pa.RecordBatch, con: duckdb.DuckDBPyConnection | None = None
) -> pa.RecordBatch:
    """Run a row-wise query over one batch; ids come back as 16 bytes."""
    if con is None:
        con = connect()
        try:
            return run_batch(sql, batch, con)
        finally:
            con.close()
    con.register("_hw_batch", batch)
    columns = sql_columns(batch.schema, with_text=True)
    execute(con, f"create or replace temp view {ROWS_OF} as select {columns} from _hw_batch")
    described = execute(con, f"describe (\n{sql}\n)")
    types = {str(row[0]): str(row[1]) for row in described}
    stored = stored_columns(types)
    table = fixed_ids(con.sql(f"select {stored} from (\n{sql}\n)").to_arrow_reader(65_536), types).read_all()
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def connect() -> duckdb.DuckDBPyConnection:
    """A connection for one worker or thread: one DuckDB connection runs one query at a time."""
    con = duckdb.connect(config={"threads": 1})
    register_all(con)
    return con


def rows_by_id(base: Table, ids: pa.Array, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of ``ids`` (16 bytes each, sorted), by look-ups or out of one scan."""
    if _by_look_up(base, len(ids)):
        wanted = [name for name in columns if name != "doc_id"]
        yield from base.with_text(ids, wanted)
        return
    yield from _picked(base.scan(columns), ids)


def _by_look_up(base: Table, wanted: int) -> bool:
    return base.has_id_index and wanted < SCAN_SHARE * base.num_rows


def _picked(batches: Iterator[pa.RecordBatch], ids: pa.Array) -> Iterator[pa.RecordBatch]:
    # Fixed-width bytes compare as S16 (equal lengths, so numpy's zero padding cannot confuse them).
    sorted_ids = _bytes16(ids)
    for batch in batches:
        values = _bytes16(batch.column("doc_id"))
        places = np.searchsorted(sorted_ids, values)
        places[places == len(sorted_ids)] = 0
        yield batch.filter(pa.array(sorted_ids[places] == values))


def _bytes16(ids: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.bytes_]]:
    return np.frombuffer(ids.buffers()[1], dtype="S16")[ids.offset : ids.offset + len(ids)]


def _with(task: RowsTask, **changes: object) -> RowsTask:
    import dataclasses

    return dataclasses.replace(task, **changes)  # type: ignore[arg-type]


def _operator_modules() -> tuple[str, ...]:
    """Modules outside this library whose import registers an operator (a script's own cannot travel)."""
    names = {operator.function.__module__ for operator in registered().values()}
    return tuple(
        sorted(n for n in names if not n.startswith("headwater.") and n in sys.modules and n != "__main__")
    )
