"""Rows of columnar files: a document a row, in batches of bounded bytes."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import BadInput
from headwater.ingest.canonical import DATE_SQL, candidates
from headwater.ingest.columns import ColumnMap, choose, segments
from headwater.ingest.duck import DuckError, literal, quoted
from headwater.ingest.inputs import DataFile
from headwater.ingest.row_files import RowFiles
from headwater.ingest.rows import BAD, Chunk, bad_rows
from headwater.ingest.text import as_text
from headwater.ingest.whole import Task

BATCH_BYTES = 4 << 20
MAX_BATCH_ROWS = 8_192
"""Rows of a batch: as many as make 4 MiB by the file's own statistics, and at most 8,192."""

FLAWS = (pa.ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError)
"""What Arrow raises for files that are not what they should be (``ArrowException``: the root of its own)."""

_TEXT_TYPES = (
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
)


Batches = Iterator[tuple[pa.RecordBatch, int, bool]]
"""Batches, each with the stored bytes it stands for and whether it is the file's last."""


class TableFiles(RowFiles):
    """Columns that are not mapped become the row's metadata."""

    format: str
    """For messages."""

    @abstractmethod
    def _schema(self, file: DataFile) -> pa.Schema:
        """Raises one of :data:`FLAWS` where the file cannot be read."""

    @abstractmethod
    def _batches(self, file: DataFile) -> Batches:
        """At most :data:`MAX_BATCH_ROWS` rows of about :data:`BATCH_BYTES` each. Raises as
        :meth:`_schema`.
        """

    def tasks(self) -> Iterator[Task]:
        for file in self._files:
            if file.name in self._unreadable:
                yield functools.partial(self._failed, file, self._unreadable[file.name], 0)
            else:
                yield from self._read(file)

    def _choose(self, columns: Mapping[str, str] | None, layout: str | None) -> ColumnMap:
        """Read every schema before anything is written: a missing column is an error, not a surprise."""
        self._unreadable: dict[str, str] = {}
        chosen: ColumnMap | None = None
        for file in self._files:
            try:
                schema = self._schema(file)
                _read_names(schema)
            except FLAWS as error:
                if len(self._files) == 1:
                    raise BadInput(
                        f"cannot read {file.path} as {self.format}: {_first_line(error)}"
                    ) from error
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
                f"none of the files can be read as {self.format}", hint=next(iter(self._unreadable.values()))
            )
        return chosen

    def _read(self, file: DataFile) -> Iterator[Task]:
        row, is_done = 1, False
        try:
            sql = self._query(self._schema(file), self._constants(file))
            for batch, num_bytes, is_last in self._batches(file):
                yield functools.partial(self._parse, file, batch, row, sql, num_bytes, is_last)
                row += batch.num_rows
                is_done = is_last
            if not is_done:
                yield functools.partial(Chunk, num_files=1)
        except FLAWS as error:
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

    def _constants(self, file: DataFile) -> Mapping[str, str]:  # noqa: ARG002
        """What is true of every row of a file and stands in its metadata, unless a column has the name."""
        return {}

    def _query(self, schema: pa.Schema, constants: Mapping[str, str]) -> str:
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
        pairs = [f"{literal(name)}, {quoted(name)}" for name in kept]
        pairs += [
            f"{literal(name)}, {literal(value)}"
            for name, value in constants.items()
            if value and name not in schema.names
        ]
        if "date" in given:
            given["date"] = DATE_SQL.format(given["date"])
        shown = "".join(f"{expression} as {name}, " for name, expression in given.items())
        metadata = f"json_object({', '.join(pairs)})::varchar" if pairs else "null::varchar"
        return f"select {shown}{metadata} as metadata, __number as number from input"


def _read_names(schema: pa.Schema) -> None:
    """Raises UnicodeDecodeError for a name that is not UTF-8, of a nested field too."""
    pending = [schema.field(i).type for i in range(len(schema.names))]
    while pending:
        kind = pending.pop()
        if pa.types.is_nested(kind):
            inner = [kind.field(i) for i in range(kind.num_fields)]
            assert all(field.name is not None for field in inner)
            pending += [field.type for field in inner]


def expanded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Pieces of about :data:`BATCH_BYTES` in which no column is a dictionary any more.

    Many rows of a dictionary, or of string views, may stand for one long value: they are counted as what they
    will be when each row has its own.
    """
    shared = [i for i, field in enumerate(batch.schema) if _is_shared(field.type)]
    if not shared:
        yield batch
        return
    lengths = np.zeros(batch.num_rows, np.int64)
    for i in shared:
        lengths += _lengths(batch.column(i))
    ends = np.cumsum(lengths)
    start = 0
    while start < batch.num_rows:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        piece = batch.slice(start, stop - start)
        columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in piece.columns]
        yield pa.record_batch(columns, names=batch.schema.names)
        start = stop


def _is_shared(kind: pa.DataType) -> bool:
    return pa.types.is_dictionary(kind) or kind in (pa.string_view(), pa.binary_view())


def _lengths(column: pa.Array) -> npt.NDArray[np.int64]:
    """Bytes of each row's own value; 0 for what is no text."""
    is_dictionary = pa.types.is_dictionary(column.type)
    values = column.dictionary if is_dictionary else column
    if values.type not in _TEXT_TYPES:
        return np.zeros(len(column), np.int64)
    if values.type in (pa.string_view(), pa.binary_view()):
        # Four bytes of length begin each view (Arrow columnar format, variable-size binary view layout).
        views = np.frombuffer(values.buffers()[1], dtype=np.int32)[::4]
        lengths = pa.array(views[values.offset : values.offset + len(values)].astype(np.int64))
    else:
        lengths = pc.binary_length(values).cast(pa.int64())
    if is_dictionary:
        lengths = lengths.take(column.indices)
    return lengths.fill_null(0).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


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
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_bytes(kind.value_type):
        return f"to_json(list_transform({expression}, lambda x: lower(hex(x))))::varchar"
    nested = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_struct(kind)
    return f"to_json({expression})::varchar" if nested else f"{expression}::varchar"


def _is_bytes(kind: pa.DataType) -> bool:
    """Ids, which become hex; other bytes would be garbled as text."""
    return bool(pa.types.is_fixed_size_binary(kind) or pa.types.is_binary(kind))


def _not_utf8(rows: pa.Table, raw: pa.Array) -> pa.RecordBatch:
    size = rows.num_rows
    place = [rows[name].combine_chunks() for name in ("source", "file", "position")]
    rest = [pa.repeat("not_utf8", size), pa.repeat("", size), pc.binary_length(raw).cast(pa.int64())]
    return pa.record_batch([*place, *rest], schema=BAD)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
