"""Texts without their duplicate spans: a new text table, whose rows name the documents they come from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.clusters import Stream
from headwater.dedup.documents import Documents, Texts
from headwater.dedup.estimate import memory_setting
from headwater.dedup.ids import ids_from_arrow, ids_to_arrow
from headwater.dedup.scratch import scratch
from headwater.errors import DataMismatch
from headwater.kernels.cut import cut
from headwater.kernels.flat import flatten, whole
from headwater.kernels.xxh3 import digest_array
from headwater.sql import run

CLEANED = pa.schema(
    [
        pa.field("doc_id", pa.binary(16)),
        pa.field("text", pa.large_string()),
        pa.field("text_hash", pa.binary(16)),
        pa.field("text_bytes", pa.int64()),
        pa.field("removed_bytes", pa.int64()),
        pa.field("parent_ids", pa.list_(pa.binary(16))),
    ]
)


def without_spans(documents: Documents, spans: Stream) -> pa.RecordBatchReader:
    """Every document, with the bytes of its ``spans`` cut out.

    ``spans`` has ``doc_id``, ``start`` and ``end`` (bytes, at borders of characters, as ``duplicate_spans``
    and ``duplicate_lines`` return them), in any order; they may overlap. A span of whole lines takes the line
    feed behind it along. The spans are sorted on disk; in memory are those of one batch of documents.

    Returns ``doc_id``, ``text``, ``text_hash`` (of this text), ``text_bytes``, ``removed_bytes`` and
    ``parent_ids`` (the document that the text was made from), in the order of ``documents``. A document keeps
    its doc_id, so that signals and decisions about it still join. No row is dropped: a document of which
    nothing is left has an empty text. Raises DataMismatch for a span that lies outside its text.
    """
    return pa.RecordBatchReader.from_batches(CLEANED, _stream(documents, spans))


def _stream(documents: Documents, spans: Stream) -> Iterator[pa.RecordBatch]:
    with tempfile.TemporaryDirectory(prefix="headwater-cut-") as name:
        texts = Texts(documents, Path(name))
        with _Sorted(Path(name), _ids(documents, texts), spans) as by_place:
            at = 0
            for batch in texts:
                yield _cut(batch, *by_place.up_to(at, at + batch.num_rows))
                at += batch.num_rows


def _ids(documents: Documents, texts: Texts) -> Iterator[pa.Array]:
    lake: Any = documents
    for batch in lake.scan(["doc_id"]) if hasattr(lake, "with_text") else texts:
        yield batch.column("doc_id")


class _Sorted:
    """Spans in the order of the documents they belong to, by place in the stream of documents."""

    def __init__(self, folder: Path, ids: Iterator[pa.Array], spans: Stream) -> None:
        self._con = scratch(
            folder, limit_bytes=memory_setting() // 4, threads=1, name="spans.duckdb", ordered=False
        )
        run(self._con, "create table places (doc_id blob, place bigint)")
        at = 0
        for column in ids:
            places = pa.array(np.arange(at, at + len(column)))
            self._insert("places", pa.table({"doc_id": column.cast(pa.binary()), "place": places}))
            at += len(column)
        run(self._con, 'create table spans (doc_id blob, start bigint, "end" bigint)')
        for batch in spans.to_batches() if isinstance(spans, pa.Table) else spans:
            ids_from_arrow(batch.column("doc_id"))  # 16 bytes each, no nulls, or an error that says so
            rows = pa.Table.from_batches([batch]).select(["doc_id", "start", "end"])
            self._insert("spans", rows.set_column(0, "doc_id", rows["doc_id"].cast(pa.binary())))
        query = (
            'select place, start, "end" from spans join places using (doc_id) order by place, start, "end"'
        )
        self._batches = iter(self._con.cursor().sql(query).to_arrow_reader(1 << 16))
        self._held = np.empty((0, 3), dtype=np.int64)

    def __enter__(self) -> _Sorted:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._con.close()

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._con.register("incoming", rows)
        run(self._con, f"insert into {table} select * from incoming")
        self._con.unregister("incoming")

    def up_to(self, first: int, end: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Spans of the documents ``first`` to ``end``: where each document's begin, and (n, 2) bounds."""
        parts = [self._held]
        while not len(parts[-1]) or parts[-1][-1, 0] < end:
            batch = next(self._batches, None)
            if batch is None:
                break
            parts.append(np.column_stack([column.to_numpy() for column in batch.columns]).astype(np.int64))
        rows = np.concatenate(parts)
        cut_at = int(np.searchsorted(rows[:, 0], end))
        self._held, rows = rows[cut_at:], rows[:cut_at]
        firsts = np.searchsorted(rows[:, 0], np.arange(first, end + 1))
        return firsts.astype(np.int64), np.ascontiguousarray(rows[:, 1:])


def _cut(
    batch: pa.RecordBatch,
    firsts: npt.NDArray[np.int64],
    span: npt.NDArray[np.int64],
) -> pa.RecordBatch:
    text = whole(batch.column("text"))
    text = pc.fill_null(text, "") if text.null_count else text
    parents = ids_to_arrow(ids_from_arrow(batch.column("doc_id")))
    data, offsets = flatten(text)
    out = np.empty(int(offsets[-1] - offsets[0]) + 1, dtype=np.uint8)
    new_offsets = np.zeros(len(offsets), dtype=np.int64)
    places = np.arange(len(batch), dtype=np.int64)
    wrong = cut(data, offsets, places, firsts, span, out, new_offsets)
    if wrong >= 0:
        raise DataMismatch(
            f"a span of document {parents[wrong].as_py().hex()} does not lie in its text",
            hint="the spans were made from another version of the documents; build them again",
        )
    cleaned = pa.LargeStringArray.from_buffers(
        len(batch), pa.py_buffer(new_offsets), pa.py_buffer(out[: new_offsets[-1]])
    )
    removed = (offsets[1:] - offsets[:-1]) - (new_offsets[1:] - new_offsets[:-1])
    columns = [
        parents,
        cleaned,
        digest_array(cleaned),
        pc.binary_length(cleaned),
        pa.array(removed),
        pa.ListArray.from_arrays(pa.array(np.arange(len(batch) + 1, dtype=np.int32)), parents),
    ]
    return pa.record_batch(columns, schema=CLEANED)
