"""A private DuckDB connection that shows exact table versions as views."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import lance
import pyarrow as pa

from headwater.checks.closure import open_version
from headwater.checks.synthetic import (
    KNOWN_DOCUMENTS,
    MACROS,
    PREVIOUSLY_APPROVED,
    PROVENANCE,
    document_tables,
    known_query,
    previously_approved,
    provenance_query,
)
from headwater.errors import DataMismatch, UsageError
from headwater.lake.table import BATCH_ROWS, IO_BUFFER_BYTES, TEXT_COLUMN

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

PACKED_TABLE = "packed_table"
"""Key of ``provenance.extra``: the curated table version that sequences were packed from."""

MEMORY_LIMIT = "1GB"
"""DuckDB's share. Text batches of a scan are outside it and add some 0.5 GB at most, so that a check
stays below 2 GiB."""

_BEFORE = "_headwater_scan_before"

_TEXT_SCAN = {
    "batch_size": BATCH_ROWS,
    "io_buffer_size": IO_BUFFER_BYTES,
    "batch_readahead": 2,
    "fragment_readahead": 1,
}
"""Lance's defaults hold as many batches of 8,192 documents as there are cores: 1.2 GB resident on
60,000 documents of 12 kB, against 0.6 GB with these."""


@dataclass(frozen=True)
class Views:
    """An open connection, and the scans that each of its cursors has to register."""

    connection: duckdb.DuckDBPyConnection
    scans: Mapping[str, object]


def visible_tables(lake: Lake, table: Table, pins: Mapping[str, int] | None = None) -> list[Table]:
    """Return ``table`` and the tables of its closure as a check of it sees them, one version of each.

    Where the closure holds two versions of a table, the one nearest to ``table`` counts: what it was
    built from itself rather than what its inputs were built from. ``pins`` names other versions
    (qualified name to version). Inputs whose version is gone are left out; one that is not what was
    recorded raises ``DataMismatch``.
    """
    chosen: dict[str, Table] = {table.name: table}
    layer: list[Table] = [table]
    while layer:
        refs = sorted((ref for t in layer for ref in t.provenance.inputs), key=lambda r: (r.name, -r.version))
        layer = []
        for ref in refs:
            if ref.name in chosen:
                continue
            upstream = open_version(lake, ref)
            if upstream is None:
                continue
            if upstream.digest != ref.digest:
                raise DataMismatch(
                    f"{ref} has digest {upstream.digest}, but {table.ref} was built from {ref.digest}",
                    hint="the table was made anew; build what depends on it again",
                )
            chosen[ref.name] = upstream
            layer.append(upstream)
    for name, version in (pins or {}).items():
        pinned = lake.table(name, version=version)
        if pinned.name != table.name:
            chosen[pinned.name] = pinned
        elif pinned.version != table.version:
            raise UsageError(f"{name} is checked at version {table.version}, but pinned to {version}")
    return list(chosen.values())


@contextmanager
def pinned_views(
    lake: Lake,
    table: Table,
    *,
    pins: Mapping[str, int] | None = None,
    memory_limit: str = MEMORY_LIMIT,
    threads: int | None = None,
) -> Iterator[Views]:
    """Open a connection with views of ``table`` and of what it was built from (:func:`visible_tables`).

    Views are called ``<schema>.<table>`` and, where that is unambiguous, ``<table>``; the judged table
    always has its bare name. ``doc_id`` is a UUID. Text is shown of the judged table only, in small
    batches: of the others it would only be read by mistake. Further views, where the version's
    provenance names them: ``candidates`` (the base table of a curated table), ``decisions`` and
    ``rules`` (of the build that made this version), ``packed_table`` (of sequences); and for what concerns
    synthetic documents ``previously_approved``, ``provenance``, ``known_documents`` and the table macros of
    :mod:`headwater.checks.synthetic`.

    The connection reaches no files and no Python variables, and its spill folder is removed at the end.
    """
    tables = visible_tables(lake, table, pins)
    logs = _logs(lake, table)
    before = previously_approved(lake, table)
    with tempfile.TemporaryDirectory(prefix="headwater-check-", ignore_cleanup_errors=True) as spill:
        connection = _connect(spill, memory_limit, threads)
        try:
            shown = [*tables, *logs.values()]
            scans = {f"_headwater_scan_{i}": _scan(each) for i, each in enumerate(shown)}
            names = dict(zip((each.name for each in shown), scans, strict=True))
            if before is not None:
                scans[_BEFORE] = _scan(before)
            for name, scan in scans.items():
                connection.register(name, scan)
            bare = {table.short_name}
            for each in tables:
                _show(connection, names[each.name], each, own=each is table)
            for each in tables[1:]:
                if each.short_name not in bare:
                    bare.add(each.short_name)
                    _alias(connection, each.short_name, each)
            _alias(connection, table.short_name, table)
            _show_companions(connection, table, tables, {k: names[t.name] for k, t in logs.items()}, bare)
            _show_synthetic(connection, table, tables, before, bare)
            # A suite is SQL from a pull request: it judges tables and has no business elsewhere.
            connection.execute("set enable_external_access = false")
            connection.execute("set lock_configuration = true")
            yield Views(connection, scans)
        finally:
            connection.close()


def _connect(spill: str, memory_limit: str, threads: int | None) -> duckdb.DuckDBPyConnection:
    settings: dict[str, Any] = {
        "memory_limit": memory_limit,
        "temp_directory": spill,
        "python_enable_replacements": False,
    }
    if threads is not None:
        settings["threads"] = threads
    return duckdb.connect(":memory:", config=settings)


def _logs(lake: Lake, table: Table) -> dict[str, Table]:
    """The schema's ``decisions`` and ``rules``, for a curated table."""
    if "decisions" not in table.provenance.extra:
        return {}
    schema = table.name.partition(".")[0]
    names = [name for name in ("decisions", "rules") if lake.exists(f"{schema}.{name}")]
    return {name: lake.table(f"{schema}.{name}") for name in names}


def _show_companions(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    tables: Sequence[Table],
    logs: Mapping[str, str],
    bare: set[str],
) -> None:
    """Create the views that a version's provenance names: see :func:`pinned_views`."""
    extra = table.provenance.extra
    for alias in ("candidates", PACKED_TABLE):
        named = extra.get(alias)
        name = str(named.get("table") if isinstance(named, Mapping) else named).partition("@")[0]
        found = next((t for t in tables if name in (t.name, t.short_name)), None)
        if found is not None and alias not in bare:
            _alias(connection, alias, found)
    for log, scan in logs.items():
        if log not in bare:
            build = str(extra["decisions"]["build_id"]).replace("'", "''")
            where = f"where build_id = '{build}' and \"table\" = '{table.short_name}'"
            _create_view(connection, f"main.{quoted(log)}", f"select * from {scan} {where}")


def _show_synthetic(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    tables: Sequence[Table],
    before: Table | None,
    bare: set[str],
) -> None:
    """The views and macros of :mod:`headwater.checks.synthetic`, except under names that tables have."""
    documents = [(each, _relation(each)) for each in document_tables(tables)]
    views = {PROVENANCE: provenance_query(documents), KNOWN_DOCUMENTS: known_query(documents)}
    earlier = f"select * from {_relation(table)} where false"
    if before is not None:
        columns = ", ".join(_column(field) for field in before.schema if not _is_text(field))
        earlier += f" union all by name select {columns} from {_BEFORE}"
    views[PREVIOUSLY_APPROVED] = earlier
    for name, query in views.items():
        if name not in bare:
            _create_view(connection, f"main.{quoted(name)}", query)
    for signature, body in MACROS.items():
        connection.execute(f"create macro {signature} as table {body}")


def _scan(table: Table) -> object:
    if not any(pa.types.is_large_string(field.type) for field in table.schema):
        return table.dataset
    return lance.dataset(
        table.dataset.uri,
        version=table.version,
        storage_options=table.dataset._storage_options,
        default_scan_options=_TEXT_SCAN,
    )


def _show(connection: duckdb.DuckDBPyConnection, scan: str, table: Table, *, own: bool) -> None:
    schema, _, short = table.name.rpartition(".")
    columns = ", ".join(_column(field) for field in table.schema if own or not _is_text(field))
    connection.execute(f"create schema if not exists {quoted(schema)}")
    _create_view(connection, f"{quoted(schema)}.{quoted(short)}", f"select {columns} from {scan}")


def _alias(connection: duckdb.DuckDBPyConnection, alias: str, table: Table) -> None:
    _create_view(connection, f"main.{quoted(alias)}", f"select * from {_relation(table)}")


def _relation(table: Table) -> str:
    schema, _, short = table.name.rpartition(".")
    return f"{quoted(schema)}.{quoted(short)}"


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    connection.execute(f"create view {name} as {query}")


def _is_text(field: pa.Field) -> bool:
    return field.name == TEXT_COLUMN or bool(pa.types.is_large_string(field.type))


def _column(field: pa.Field) -> str:
    name = quoted(field.name)
    return f"{name}::uuid as {name}" if field.name == "doc_id" and _is_id(field.type) else name


def _is_id(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16)


def quoted(name: str) -> str:
    """``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
