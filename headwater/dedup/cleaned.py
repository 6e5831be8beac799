"""Texts without their duplicate spans: a new text table, whose rows name the documents they come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.clusters import Stream
from headwater.dedup.documents import BATCH_ROWS, Documents
from headwater.dedup.ids import ids_from_arrow, ids_to_arrow, sorted_distinct
from headwater.errors import DataMismatch, UnknownName
from headwater.kernels.cut import cut
from headwater.kernels.flat import flatten, whole
from headwater.kernels.pairs import find_ids
from headwater.kernels.xxh3 import digest_array

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
    feed behind it along. Holds 32 bytes for each span.

    Returns ``doc_id``, ``text``, ``text_hash`` (of this text), ``text_bytes``, ``removed_bytes`` and
    ``parent_ids`` (the document that the text was made from), in the order of ``documents``. A document keeps
    its doc_id, so that signals and decisions about it still join. No row is dropped: a document of which
    nothing is left has an empty text. Raises DataMismatch for a span that lies outside its text.
    """
    return pa.RecordBatchReader.from_batches(CLEANED, _stream(documents, spans))


def _stream(documents: Documents, spans: Stream) -> Iterator[pa.RecordBatch]:
    batches = spans.to_batches() if isinstance(spans, pa.Table) else spans
    owners, bounds = [np.empty((0, 2), dtype=np.uint64)], [np.empty((0, 2), dtype=np.int64)]
    for batch in batches:
        owners.append(ids_from_arrow(batch.column("doc_id")))
        bounds.append(
            np.column_stack([batch.column(c).to_numpy() for c in ("start", "end")]).astype(np.int64)
        )
    owner, span = np.concatenate(owners), np.concatenate(bounds)
    order = np.lexsort((span[:, 0], owner[:, 1], owner[:, 0]))
    owner, span = owner[order], np.ascontiguousarray(span[order])
    ids = sorted_distinct(owner)
    # Row i of ids owns the spans [firsts[i], firsts[i + 1]).
    changes = np.flatnonzero((owner[1:] != owner[:-1]).any(axis=1)) + 1
    firsts = np.concatenate([[0], changes, [len(owner)]]).astype(np.int64)
    for batch in _read(documents):
        yield _cut(batch, ids, firsts, span)


def _cut(
    batch: pa.RecordBatch,
    ids: npt.NDArray[np.uint64],
    firsts: npt.NDArray[np.int64],
    span: npt.NDArray[np.int64],
) -> pa.RecordBatch:
    text = whole(batch.column("text"))
    text = pc.fill_null(text, "") if text.null_count else text
    parents = ids_to_arrow(ids_from_arrow(batch.column("doc_id")))
    data, offsets = flatten(text)
    out = np.empty(int(offsets[-1] - offsets[0]) + 1, dtype=np.uint8)
    new_offsets = np.zeros(len(offsets), dtype=np.int64)
    places = find_ids(ids, ids_from_arrow(parents))
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


def _read(documents: Documents) -> Iterator[pa.RecordBatch]:
    source: Any = documents
    batches: Iterable[pa.RecordBatch] = source
    if hasattr(source, "with_text"):
        batches = source.scan(["doc_id", "text"])
    elif isinstance(source, pa.Table):
        batches = source.to_batches(max_chunksize=BATCH_ROWS)
    for batch in batches:
        for column in ("doc_id", "text"):
            if column not in batch.schema.names:
                raise UnknownName.of("column", column, batch.schema.names, where="documents")
        yield batch.select(["doc_id", "text"])
