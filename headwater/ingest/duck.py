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


def canonical_columns(
    given: Mapping[str, str], *, source: str, fixed_source: bool, origin: str, position: str
) -> str:
    """The select list that turns text expressions into candidate columns.

    ``given``: canonical name -> SQL expression of type varchar. ``position`` is the SQL expression of
    the row's or line's number; the parameter ``$file`` names the file.
    """
    value = {name: f"nullif({given[name]}, '')" if name in given else "null::varchar" for name in _TEXTUAL}
    at = f"$file || ':' || {position}"
    own_source = "null" if fixed_source else value["source"]
    own_origin = (
        f"case when {value['origin']} in ('human', 'synthetic', 'unknown') then {value['origin']} end"
    )
    return f"""
        coalesce({value["id"]}, {value["path"]}, {at}) as key,
        coalesce({own_source}, {literal(source)}) as source,
        coalesce({value["path"]}, {value["id"]}, {at}) as path,
        {value["url"]} as url,
        coalesce({own_origin}, {literal(origin)}) as origin,
        {_joined_licenses(value["license"])} as license_declared,
        try_cast(try_cast({value["date"]} as timestamptz) as timestamp) as date"""


_TEXTUAL = ("id", "source", "path", "url", "origin", "license", "date")


def _joined_licenses(value: str) -> str:
    """A JSON list of licenses as their AND: which of them covers a file is not said, so all may."""
    items = f"list_filter(try_cast(from_json({value}, '[\"VARCHAR\"]') as varchar[]), lambda x: x <> '')"
    several = f"list_transform({items}, lambda x: case when contains(x, ' ') then '(' || x || ')' else x end)"
    joined = (
        f"case when len({items}) = 1 then {items}[1] else nullif(array_to_string({several}, ' AND '), '') end"
    )
    return f"case when {value} like '[%' and json_valid({value}) then {joined} else {value} end"
