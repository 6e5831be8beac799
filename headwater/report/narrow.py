# the names in these queries are ours; every value is a parameter or an escaped literal
"""DuckDB over ids and other narrow columns of lake tables. Text never enters here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headwater.sql import run

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Table

MEMORY_LIMIT = "1GB"
"""For one question. What does not fit spills to a temporary folder."""


@contextmanager
def connection(memory_limit: str = MEMORY_LIMIT) -> Iterator[duckdb.DuckDBPyConnection]:
    """A private in-memory DuckDB that spills to a temporary folder and is closed at the end."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="headwater-") as spill:
        con = duckdb.connect(config={"memory_limit": memory_limit, "temp_directory": spill})
        try:
            yield con
        finally:
            con.close()


def load(
    con: duckdb.DuckDBPyConnection,
    name: str,
    table: Table,
    columns: Sequence[str],
    *,
    filter: str | None = None,
    where: str = "true",
) -> None:
    """Stream ``columns`` of ``table`` into the temporary DuckDB table ``name``.

    ``filter`` is pushed down to Lance, ``where`` is DuckDB's (for what Lance cannot say).
    """
    con.register("_incoming", table.scan(columns=list(columns), filter=filter))
    try:
        run(con, f'create or replace temp table "{name}" as select * from _incoming where {where}')
    finally:
        con.unregister("_incoming")


def rows(con: duckdb.DuckDBPyConnection, query: str, parameters: Any = None) -> list[dict[str, Any]]:
    """The result of a query that returns few rows, as dictionaries."""
    result = con.execute(query, parameters) if parameters is not None else con.execute(query)
    names = [column[0] for column in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def one(con: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The single row of an aggregate. Fetches to the end: DuckDB 2 refuses other work until then."""
    return run(con, query)[0]


def literal(text: str) -> str:
    """``text`` as a SQL string literal, for DuckDB and Lance filters alike."""
    return "'" + text.replace("'", "''") + "'"
