"""``kind="parquet"``: a document a row, in batches of bounded bytes."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headwater.errors import BadInput
from headwater.ingest.canonical import DATE_SQL, Defaults, candidates
from headwater.ingest.columns import ColumnMap, check_map, choose, segments
from headwater.ingest.duck import DuckError, Ducks, literal, quoted
from headwater.ingest.files import Task
from headwater.ingest.inputs import DataFile, Location, data_files, default_source
from headwater.ingest.rows import BAD, Chunk, bad_rows
from headwater.ingest.text import as_text

SUFFIXES = (".parquet", ".parq", ".pq")
BATCH_BYTES = 4 << 20
MAX_BATCH_ROWS = 8_192
"""Rows of a batch: as many as make 4 MiB by the file's own statistics, and at most 8,192."""

_TEXT_TYPES = (
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
)


class ParquetReader:
    """Rows of one or more files. Columns that are not mapped become the row's metadata."""

    source_prefix: str | None = None

    def __init__(
        self,
        location: Location,
        *,
        source: str | None,
        columns: Mapping[str, str] | None,
        layout: str | None,
        origin: str,
        ducks: Ducks,
    ) -> None:
        check_map(columns, layout)
        self._files = data_files(location, lambda name: name.endswith(SUFFIXES))
        self._ducks = ducks
        self._unreadable: dict[str, str] = {}
        self.map = self._check(columns, layout)
        self.layout = self.map.layout
        from_rows = "source" in self.map.columns and (source is None or "source" in self.map.given)
        self.source = source or default_source(location, needed=not from_rows)
        self.sources = None if from_rows else frozenset({self.source})
        self._defaults = Defaults(source=self.source, from_rows=from_rows, origin=origin)

    def total_bytes(self) -> int | None:
        return sum(file.size for file in self._files)

    def tasks(self) -> Iterator[Task]:
        for file in self._files:
            if file.name in self._unreadable:
                yield functools.partial(self._failed, file, self._unreadable[file.name], 0)
            else:
                yield from self._read(file)

    def _check(self, columns: Mapping[str, str] | None, layout: str | None) -> ColumnMap:
        """Open every footer before anything is written: a missing column is an error, not a surprise."""
        chosen: ColumnMap | None = None
        for file in self._files:
            try:
                schema = pq.read_schema(file.path) if file.path.isprintable() else _schema(file)
            except (pa.ArrowInvalid, OSError) as error:
                if len(self._files) == 1:
                    raise BadInput(f"cannot read {file.path} as Parquet: {_first_line(error)}") from error
                self._unreadable[file.name] = _first_line(error)
                continue
            first = chosen is None
            found = choose(
                schema.names,
                columns=columns if first or chosen is None else {**(columns or {}), "text": chosen.text},
                layout=layout if first or chosen is None else chosen.layout,
                where=file.path,
            )
            _check_text(schema, found.text, file.path)
            chosen = chosen or found
        if chosen is None:
            raise BadInput(
                "none of the files can be read as Parquet", hint=next(iter(self._unreadable.values()))
            )
        return chosen

    def _read(self, file: DataFile) -> Iterator[Task]:
        row = 1
        try:
            with open(file.path, "rb") as opened:  # noqa: PTH123
                # Buffered pages instead of whole column chunks: a row group of text may be gigabytes.
                parquet = pq.ParquetFile(opened, buffer_size=1 << 20, pre_buffer=False)
                rows = parquet.metadata.num_rows
                size = sum(
                    parquet.metadata.row_group(i).total_byte_size for i in range(parquet.num_row_groups)
                )
                batch_rows = int(max(1, min(MAX_BATCH_ROWS, BATCH_BYTES * rows // max(size, 1))))
                sql = self._query(parquet.schema_arrow)
                for batch in parquet.iter_batches(batch_size=batch_rows, use_threads=False):
                    share = file.size * batch.num_rows // max(rows, 1)
                    last = row + batch.num_rows > rows
                    yield functools.partial(self._parse, file, batch, row, sql, share, last)
                    row += batch.num_rows
                if rows == 0:
                    yield functools.partial(Chunk, num_files=1)
        except (pa.ArrowInvalid, OSError) as error:
            yield functools.partial(self._failed, file, _first_line(error), row - 1)

    def _failed(self, file: DataFile, error: str, rows_read: int) -> Chunk:
        detail = f"breaks off after row {rows_read}: {error}" if rows_read else error
        bad = bad_rows(self.source, file.name, "", "unreadable", detail, file.size)
        return Chunk(bad=bad, num_files=1, num_rows=1, read_bytes=file.size, unreadable=file.name)

    def _parse(
        self, file: DataFile, batch: pa.RecordBatch, first_row: int, sql: str, share: int, last: bool
    ) -> Chunk:
        numbers = np.arange(first_row, first_row + batch.num_rows)
        raw = _column(batch, self.map.text)
        text, valid = as_text(raw)
        try:
            rows = self._ducks.query(sql, _plain(batch, self.map.text, numbers))
        except DuckError as error:
            raise BadInput(
                f"{file.path}, rows {first_row} to {numbers[-1]}: {_first_line(error)}",
                hint="a column has a type or values that cannot become JSON; drop it from the file",
            ) from error
        table = candidates(rows, text, unit="row", file=file.name, defaults=self._defaults, ducks=self._ducks)
        bad = None
        if valid is not None:
            wrong = pa.array(~valid)
            bad = _not_utf8(table.filter(wrong), raw.filter(wrong))
            table = table.filter(pa.array(valid))
        table = table.combine_chunks()
        return Chunk(
            rows=table.to_batches()[0] if table.num_rows else None,
            bad=bad,
            num_files=int(last),
            num_rows=batch.num_rows,
            read_bytes=share,
        )

    def _query(self, schema: pa.Schema) -> str:
        given = {
            name: expression
            for name, column in self.map.columns.items()
            if name != "text" and (expression := _expression(schema, column)) is not None
        }
        moved = {
            column
            for name, column in self.map.columns.items()
            if name not in ("id", "date") and not (name == "source" and not self._defaults.from_rows)
        }
        kept = [name for name in schema.names if name not in moved]
        packed = ", ".join(f"{literal(name)}, {quoted(name)}" for name in kept)
        if "date" in given:
            given["date"] = DATE_SQL.format(given["date"])
        shown = "".join(f"{expression} as {name}, " for name, expression in given.items())
        metadata = f"json_object({packed})::varchar" if kept else "null::varchar"
        return f"select {shown}{metadata} as metadata, __number as number from input"


def _schema(file: DataFile) -> pa.Schema:
    with open(file.path, "rb") as opened:  # noqa: PTH123
        return pq.read_schema(opened)


def _check_text(schema: pa.Schema, column: str, path: str) -> None:
    kind = _type_of(schema, column)
    if kind is not None and pa.types.is_dictionary(kind):
        kind = kind.value_type
    if kind is None or kind not in _TEXT_TYPES:
        what = "is not there" if kind is None else f"holds {kind}, not text"
        raise BadInput(f"{path}: column {column!r} {what}", hint=f"columns: {', '.join(schema.names)}")


def _type_of(schema: pa.Schema, column: str) -> pa.DataType | None:
    if column in schema.names:
        return schema.field(column).type
    head, *rest = segments(column)
    kind = schema.field(head).type if head in schema.names else None
    for part in rest:
        if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return kind


def _column(batch: pa.RecordBatch, column: str) -> pa.Array:
    """The text column, which may be nested, as large binary."""
    if column in batch.schema.names:
        values = batch[column]
    else:
        head, *rest = segments(column)
        values = pc.struct_field(batch[head], rest)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values.cast(pa.large_binary())


def _plain(batch: pa.RecordBatch, text: str, numbers: Any) -> pa.Table:
    """The batch without its text, for DuckDB, which trusts strings to be UTF-8: others go as bytes."""
    table = pa.Table.from_batches([batch]).append_column("__number", pa.array(numbers, pa.int64()))
    if text in table.schema.names:
        table = table.drop_columns([text])
    for i, field in enumerate(table.schema):
        if field.type in _TEXT_TYPES[:3]:
            values = table.column(i).combine_chunks()
            if as_text(values)[1] is not None:
                table = table.set_column(i, field.name, values.cast(pa.binary()))
    return table


def _expression(schema: pa.Schema, column: str) -> str | None:
    """SQL for a column, or a nested field, as varchar; None when this file does not have it."""
    if column in schema.names:
        return _varchar(quoted(column), schema.field(column).type)
    head, *rest = segments(column)
    if head not in schema.names or not rest:
        return None
    kind = schema.field(head).type
    if kind in _TEXT_TYPES[:3]:
        path = "$" + "".join(f'."{part}"' for part in rest)
        whole = quoted(head)
        return f"case when json_valid({whole}) then json_extract_string({whole}, {literal(path)}) end"
    inner = _type_of(schema, column)
    return None if inner is None else _varchar(".".join(quoted(part) for part in (head, *rest)), inner)


def _varchar(expression: str, kind: pa.DataType) -> str:
    nested = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_struct(kind)
    return f"to_json({expression})::varchar" if nested else f"{expression}::varchar"


def _not_utf8(rows: pa.Table, raw: pa.Array) -> pa.RecordBatch:
    size = rows.num_rows
    place = [rows[name].combine_chunks() for name in ("source", "file", "position")]
    rest = [pa.repeat("not_utf8", size), pa.repeat("", size), pc.binary_length(raw).cast(pa.int64())]
    return pa.record_batch([*place, *rest], schema=BAD)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
