"""The documents of a table with their text, a bounded batch at a time, each once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.ids import ids_from_arrow, sorted_distinct
from headwater.errors import DataMismatch, UsageError
from headwater.kernels.pairs import find_ids
from headwater.lake.synthetic import SYNTHETIC_FIELDS
from headwater.lake.table import TEXT_COLUMN
from headwater.sequences.source import text_of

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

CHUNK_TEXT_BYTES = 16 << 20
CHUNK_ROWS = 8_192
"""A chunk ends at 16 MiB of text or 8,192 documents: the unit of one conversion on one thread."""

LOOKUP_SHARE = 0.05
"""Below this share of the documents, and with an index on doc_id, look-ups read less than one scan."""

DOCUMENT_COLUMNS = (
    *("source", "path", "url", "origin", "license_declared", "date", "metadata", "text_bytes"),
    *SYNTHETIC_FIELDS.names,
)
"""What the table of documents adds to a curated table that does not have it."""


@dataclass(frozen=True)
class Documents:
    """A table, the table that holds its text, and the columns of either that are written out."""

    table: Table
    text: Table
    own: tuple[str, ...]
    """Columns of ``table``, ``doc_id`` first, without the text."""
    added: tuple[str, ...]
    """Columns of ``text`` that ``table`` does not have."""

    @classmethod
    def of(cls, lake: Lake, table: Table) -> Documents:
        """Raises ``UsageError`` for a table without ``doc_id``, or whose text is nowhere."""
        if "doc_id" not in table.schema.names:
            raise UsageError(
                f"{table.ref} has no doc_id column", hint="name a table of documents, e.g. python_textbook"
            )
        text = text_of(lake, table)
        own = ("doc_id", *(n for n in table.schema.names if n not in ("doc_id", TEXT_COLUMN)))
        added = tuple(n for n in DOCUMENT_COLUMNS if n in text.schema.names and n not in own)
        return cls(table, text, own, added)

    @property
    def schema(self) -> pa.Schema:
        """``doc_id``, ``text`` and all other columns, as :meth:`chunks` yields them."""
        fields = [self.table.schema.field("doc_id"), pa.field(TEXT_COLUMN, pa.large_string())]
        fields += [self.table.schema.field(name) for name in self.own[1:]]
        return pa.schema(fields + [self.text.schema.field(name) for name in self.added])

    def chunks(self, max_bytes: int = CHUNK_TEXT_BYTES) -> Iterator[pa.RecordBatch]:
        """Every document of the table once. The order is the same for the same two versions.

        Holds 24 bytes for each document and a few chunks. Raises ``DataMismatch`` when the text table
        lacks one of the documents.
        """
        if self.table.name == self.text.name and self.table.version == self.text.version:
            batches: Iterator[pa.RecordBatch] = iter(self.table.scan(self.schema.names))
        elif self.text.has_id_index and self.table.num_rows < LOOKUP_SHARE * self.text.num_rows:
            batches = self._looked_up()
        else:
            batches = self._scanned()
        yield from _chunked(batches, self.schema, min(max_bytes, CHUNK_TEXT_BYTES))

    def _looked_up(self) -> Iterator[pa.RecordBatch]:
        for rows in self.table.scan(self.own):
            found = self.text.with_text(rows.column("doc_id"), [TEXT_COLUMN, *self.added])
            texts = pa.Table.from_batches(list(found)).combine_chunks()
            columns = [rows.column("doc_id"), _one(texts, TEXT_COLUMN), *rows.columns[1:]]
            columns += [_one(texts, name) for name in self.added]
            yield _batch(columns, self.schema)

    def _scanned(self) -> Iterator[pa.RecordBatch]:
        """One scan of the texts; the table's own columns are taken by row number, a few at a time."""
        parts = [ids_from_arrow(batch.column("doc_id")) for batch in self.table.scan(["doc_id"])]
        ids = np.concatenate(parts) if parts else np.empty((0, 2), dtype=np.uint64)
        del parts
        order = np.lexsort((ids[:, 1], ids[:, 0])).astype(np.int64)
        ids = np.ascontiguousarray(ids[order])
        if len(sorted_distinct(ids)) != self.table.num_rows:
            raise DataMismatch(f"{self.table.ref} has a doc_id more than once")
        seen = 0
        for batch in self.text.scan(["doc_id", TEXT_COLUMN, *self.added]):
            places = find_ids(ids, ids_from_arrow(batch.column("doc_id")))
            wanted = places >= 0
            if not wanted.any():
                continue
            batch = batch.filter(pa.array(wanted))
            seen += batch.num_rows
            own = self.table.dataset.take(order[places[wanted]].tolist(), columns=list(self.own))
            columns = [batch.column("doc_id"), batch.column(TEXT_COLUMN)]
            columns += [_one(own, name) for name in self.own[1:]]
            yield _batch(columns + [batch.column(name) for name in self.added], self.schema)
        if seen != self.table.num_rows:
            raise DataMismatch(
                f"{self.text.ref} holds {seen:,} of the {self.table.num_rows:,} documents of "
                f"{self.table.ref}",
                hint="build the table again from the documents that are there",
            )


def _chunked(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, max_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Join small batches and cut large ones at the chunk limits, which depend on the rows alone."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        lengths = pc.binary_length(batch.column(TEXT_COLUMN)).fill_null(0).to_numpy(zero_copy_only=False)
        ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        start = 0
        while start < batch.num_rows:
            room = ends[start] + max_bytes - size
            stop = int(np.searchsorted(ends, room, side="right")) - 1
            stop = min(stop, start + CHUNK_ROWS - rows, batch.num_rows)
            if stop <= start and rows:
                yield _joined(held, schema)
                held, rows, size = [], 0, 0
                continue
            stop = max(stop, start + 1)  # a document above the limit is a chunk of its own
            held.append(batch.slice(start, stop - start))
            rows, size, start = rows + stop - start, size + int(ends[stop] - ends[start]), stop
    if rows:
        yield _joined(held, schema)


def _joined(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    return pa.concat_batches([_batch(b.select(schema.names).columns, schema) for b in batches if b.num_rows])


def _batch(columns: list[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([c.cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def _one(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
