"""``kind="jsonl"``: a document a line, parsed natively a block at a time."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import BadInput
from headwater.ingest.canonical import DATE_SQL, candidates
from headwater.ingest.columns import ColumnMap, choose, segments
from headwater.ingest.duck import DuckError, literal
from headwater.ingest.inputs import DataFile
from headwater.ingest.lines import Block, read_blocks
from headwater.ingest.row_files import RowFiles
from headwater.ingest.rows import BAD, Chunk, bad_rows
from headwater.ingest.text import Mask, as_text
from headwater.ingest.whole import Task

_NAMES = ("jsonl", "ndjson", "jsonlines")
_PACKED = ("", ".gz", ".zst", ".bz2")
SUFFIXES = (*(f".{name}{packed}" for name in _NAMES for packed in _PACKED), ".json.gz", ".json.zst")
"""What counts as JSONL in a folder. Dolma publishes ``.json.gz``; a plain ``.json`` is usually one object."""

Numbers = npt.NDArray[np.int64]

_ESCAPE_FACTOR = 2
"""A character of three UTF-8 bytes is six as ``\\uXXXX``: a line may be twice as long as its document."""
_DETAIL_CHARS = 160
_EXPLAINED = 20
"""Broken lines of a block whose message is worked out in Python; the rest are quarantined without one."""


class JsonlReader(RowFiles):
    """Rows of plain, gzip, zstd or bzip2 files."""

    suffixes = SUFFIXES

    @property
    def _max_line(self) -> int:
        return _ESCAPE_FACTOR * self._max_bytes

    def tasks(self) -> Iterator[Task]:
        sql = _query(self.map, fixed_source=not self._defaults.from_rows)
        for file in self._files:
            for block in read_blocks(file.path, max_line_bytes=self._max_line):
                yield functools.partial(self._parse, sql, file, block)

    def _choose(self, columns: Mapping[str, str] | None, layout: str | None) -> ColumnMap:
        """The map for the fields of the first block that holds an object."""
        for file in self._files:
            block = next(read_blocks(file.path, max_line_bytes=self._max_line))
            if block.broken and len(self._files) == 1 and not len(block.ends):
                raise BadInput(f"cannot read {file.path}: {block.broken}")
            fields = self._fields(block)
            if fields:
                return choose(fields, columns=columns, layout=layout, where=file.path)
        return choose({(columns or {}).get("text", "text")}, columns={}, layout=layout, where="the input")

    def _fields(self, block: Block) -> set[str]:
        lines, valid = as_text(block.lines())
        table = pa.table({"line": lines if valid is None else lines.filter(pa.array(valid))})
        sql = """
            with valid as (select line from input where json_valid(line))
            select distinct unnest(json_keys(line)) as field from valid where json_type(line) = 'OBJECT'
        """
        return set(self._ducks.query(sql, table)["field"].to_pylist())

    def _parse(self, sql: str, file: DataFile, block: Block) -> Chunk:
        lines, bad = self._usable(file, block)
        try:
            rows = self._ducks.query(sql, lines)
        except DuckError:
            valid = self._ducks.query("select json_valid(line) as ok from input", lines)["ok"]
            broken = lines.filter(pc.invert(valid))
            bad.append(self._broken(file, broken))
            lines = lines.filter(valid)
            rows = self._ducks.query(sql, lines)
        if pc.any(pc.not_equal(rows["root"], "OBJECT")).as_py():
            is_object = pc.equal(rows["root"], "OBJECT")
            bad.append(self._broken(file, lines.filter(pc.invert(is_object))))
            rows = rows.filter(is_object)
        text = pc.if_else(rows["is_text"], rows["text"], None)
        metadata = pc.if_else(pc.equal(rows["metadata"], "{}"), None, rows["metadata"])
        rows = rows.set_column(rows.column_names.index("metadata"), "metadata", metadata)
        table = candidates(
            rows, text, unit="line", file=file.name, defaults=self._defaults, ducks=self._ducks
        ).combine_chunks()
        flaws = pa.concat_batches([b for b in bad if b.num_rows] or [_NOTHING])
        return Chunk(
            rows=table.to_batches()[0] if table.num_rows else None,
            bad=flaws,
            num_files=int(block.is_last),
            num_rows=rows.num_rows + flaws.num_rows,
            read_bytes=block.read_bytes,
            unreadable=file.name if block.broken else None,
        )

    def _usable(self, file: DataFile, block: Block) -> tuple[pa.Table, list[pa.RecordBatch]]:
        """Lines that are UTF-8, not blank and not too long, with their numbers; and the others."""
        bad: list[pa.RecordBatch] = []
        if block.long_line is not None:
            number, num_bytes = block.long_line
            bad.append(
                self._flaw(file, number, "too_large", f"limit {self._max_line} bytes a line", num_bytes)
            )
        if block.broken is not None:
            detail = f"breaks off after line {block.first_line - 1}: {block.broken}"
            bad.append(bad_rows(self.source, file.name, "", "unreadable", detail, file.size))
        raw = block.lines()
        lines, valid = as_text(raw)
        numbers = np.arange(block.first_line, block.first_line + len(raw))
        lengths = np.diff(block.ends, prepend=0)
        keep = lengths <= self._max_line
        bad.append(
            self._flaws(file, numbers, lengths, ~keep, "too_large", f"limit {self._max_line} bytes a line")
        )
        if valid is not None:
            wrong = keep & ~valid
            flaws = self._flaws(file, numbers, lengths, wrong, "not_utf8", "")
            bad.append(_with_starts(flaws, raw, np.flatnonzero(wrong)))
            keep &= valid
        blank = pc.utf8_is_space(lines).fill_null(True).to_numpy(zero_copy_only=False)
        keep &= ~(blank & (lengths > 0))
        table = pa.table({"line": lines, "number": pa.array(numbers, pa.int64())})
        return (table if keep.all() else table.filter(pa.array(keep))), bad

    def _flaw(self, file: DataFile, number: int, reason: str, detail: str, num_bytes: int) -> pa.RecordBatch:
        return bad_rows(self.source, file.name, f"line {number}", reason, detail, num_bytes)

    def _flaws(
        self, file: DataFile, numbers: Numbers, lengths: Numbers, which: Mask, reason: str, detail: str
    ) -> pa.RecordBatch:
        size = int(np.count_nonzero(which))
        columns = [pa.repeat(value, size) for value in (self.source, file.name, reason, detail)]
        position = pc.binary_join_element_wise("line", pa.array(numbers[which]).cast(pa.string()), " ")
        columns.insert(2, position)
        return pa.record_batch([*columns, pa.array(lengths[which], pa.int64())], schema=BAD)

    def _broken(self, file: DataFile, lines: pa.Table) -> pa.RecordBatch:
        """Quarantine rows for lines that are no JSON object, the first few with what is wrong."""
        size = lines.num_rows
        start = pc.utf8_slice_codeunits(lines["line"], 0, _DETAIL_CHARS)
        detail = pc.utf8_trim_whitespace(start).to_pylist()
        for row in range(min(size, _EXPLAINED)):
            detail[row] = f"{_explain(lines['line'][row].as_py())}: {detail[row]}"
        columns = [
            pa.repeat(self.source, size),
            pa.repeat(file.name, size),
            pc.binary_join_element_wise("line", lines["number"].cast(pa.string()), " ").combine_chunks(),
            pa.repeat("broken_json", size),
            pa.array(detail, pa.string()),
            pc.binary_length(lines["line"]).cast(pa.int64()).combine_chunks(),
        ]
        return pa.record_batch(columns, schema=BAD)


_NOTHING = pa.RecordBatch.from_pylist([], schema=BAD)


def _with_starts(flaws: pa.RecordBatch, raw: pa.Array, rows: Numbers) -> pa.RecordBatch:
    """The first few flaws with how their lines begin."""
    starts = [
        raw[row].as_py()[:_DETAIL_CHARS].decode("utf-8", "backslashreplace") for row in rows[:_EXPLAINED]
    ]
    detail = [start.strip() for start in starts] + [""] * (len(rows) - len(starts))
    return flaws.set_column(4, BAD.field("detail"), pa.array(detail, pa.string()))


def _explain(line: str) -> str:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        return str(error) if isinstance(error, ValueError) else "nested too deeply"
    return "not strict JSON" if isinstance(value, dict) else f"a {type(value).__name__}, not an object"


def _query(chosen: ColumnMap, *, fixed_source: bool) -> str:
    """The mapped fields of ``input(line, number)`` as text: two passes over a line, none in Python."""
    paths = {name: _paths(column) for name, column in chosen.columns.items()}
    flat = [path for several in paths.values() for path in several]
    place = {path: f"v[{position}]" for position, path in enumerate(flat, start=1)}
    values = {name: _first(place[path] for path in several) for name, several in paths.items()}
    if "date" in values:
        values["date"] = DATE_SQL.format(values["date"])
    # An id or a date that was mapped stays in the metadata too: its own spelling is kept nowhere else.
    dropped = {n: None for name, n in chosen.columns.items() if name not in ("id", "date") and "." not in n}
    if fixed_source:
        dropped.pop(chosen.columns.get("source", ""), None)
    text_paths = ", ".join(literal(path) for path in ("$", *paths["text"]))
    is_text = " or ".join(f"t[{i + 2}] = 'VARCHAR'" for i in range(len(paths["text"])))
    names = ", ".join(values)
    named = ", ".join(f"{value} as {name}" for name, value in values.items())
    # A third pass for the types is needed only where the text is missing or would itself be JSON:
    # everywhere else a text was found, so the line is an object and the text a string.
    return f"""
        select coalesce(t[1], 'OBJECT') as root, t is null or {is_text} as is_text, metadata, number, {names}
        from (
            select *, case when text is null or json_valid(text) then json_type(line, [{text_paths}]) end as t
            from (
                select line, number, metadata, {named}
                from (
                    select
                        line,
                        number,
                        json_extract_string(line, [{", ".join(literal(path) for path in flat)}]) as v,
                        json_merge_patch(line, {literal(json.dumps(dropped))})::varchar as metadata
                    from input
                )
            )
        )
    """


def _first(values: Iterable[str]) -> str:
    several = list(values)
    return several[0] if len(several) == 1 else f"coalesce({', '.join(several)})"


def _paths(column: str) -> list[str]:
    """JSON paths of a column: the field of exactly that name, then the nested one."""
    exact = f'$."{column}"'
    return [exact, "$" + "".join(f'."{part}"' for part in segments(column))] if "." in column else [exact]
