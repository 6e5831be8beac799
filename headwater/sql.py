"""Stored types and SQL types: 16-byte ids are UUID in DuckDB, and text stays out of sight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

from headwater.lake.table import TEXT_COLUMN


def run(con: duckdb.DuckDBPyConnection, sql: str, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
    """Execute and fetch all: an unfetched result, even of DDL, keeps a DuckDB 2 connection busy."""
    return con.execute(sql, values).fetchall() if values else con.execute(sql).fetchall()


def is_id(kind: pa.DataType) -> bool:
    """True for the 16-byte binary columns that SQL sees as UUID."""
    return bool(pa.types.is_fixed_size_binary(kind)) and kind.byte_width == 16


def sql_columns(schema: pa.Schema, *, with_text: bool = False) -> str:
    """Select list that shows stored columns to SQL: ids as UUID, text only when asked for."""
    shown = []
    for field_ in schema:
        name = '"' + field_.name.replace('"', '""') + '"'
        if field_.name == TEXT_COLUMN and not with_text:
            continue
        shown.append(f"{name}::uuid as {name}" if is_id(field_.type) else name)
    return ", ".join(shown)


def stored_columns(types: Mapping[str, str]) -> str:
    """Select list that stores what SQL shows: UUID as 16 bytes."""
    parts = []
    for name, kind in types.items():
        quoted = '"' + name.replace('"', '""') + '"'
        parts.append(f"{quoted}::blob as {quoted}" if kind == "UUID" else quoted)
    return ", ".join(parts)


def fixed_ids(reader: pa.RecordBatchReader, types: Mapping[str, str]) -> pa.RecordBatchReader:
    """Type the 16 bytes of every UUID column as such: DuckDB hands them over as plain binary."""
    ids = {name for name, kind in types.items() if kind == "UUID"}
    schema = pa.schema([pa.field(f.name, pa.binary(16)) if f.name in ids else f for f in reader.schema])
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in reader))
