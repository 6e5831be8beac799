"""DuckDB as the JSON engine of the readers: one small private database for each thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

DuckError = duckdb.Error


class Ducks:
    """Connections by thread; :meth:`close` ends them all.

    Each runs its queries on the calling thread, so that rows come back in order and the number of
    threads is that of the reader. Arrow buffers go in without a copy.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._all: list[duckdb.DuckDBPyConnection] = []
        self._lock = threading.Lock()

    def query(
        self, sql: str, rows: pa.Table | pa.RecordBatch, parameters: Mapping[str, Any] | None = None
    ) -> pa.Table:
        """The result of ``sql`` over ``rows``, which it calls ``input``."""
        connection = self._connection()
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        connection.register("input", table)
        try:
            result = connection.sql(sql, params=dict(parameters)) if parameters else connection.sql(sql)
            return result.to_arrow_table()
        finally:
            connection.unregister("input")

    def _connection(self) -> duckdb.DuckDBPyConnection:
        connection: duckdb.DuckDBPyConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = duckdb.connect(config={"threads": 1, "python_enable_replacements": False})
            # Dates with an offset become UTC; strings of one block may pass 2 GiB only as large ones.
            connection.execute("set TimeZone = 'UTC'")
            connection.execute("set arrow_large_buffer_size = true")
            with self._lock:
                self._all.append(connection)
            self._local.connection = connection
        return connection

    def close(self) -> None:
        for connection in self._all:
            connection.close()
        self._all.clear()


def literal(text: str | None) -> str:
    """An SQL string literal, or NULL."""
    return "null" if text is None else "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
