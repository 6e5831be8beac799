"""Connected components of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.dedup.ids import Ids, ids_from_arrow, ids_to_arrow, sorted_distinct
from headwater.errors import DataMismatch, UnknownName
from headwater.kernels.pairs import find_ids, join_components, settle_components

Stream: TypeAlias = pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch]


def duplicate_clusters(pairs: Stream, *, threshold: float | None = None) -> pa.Table:
    """Documents that have a twin: ``doc_id``, ``cluster_id`` (the smallest doc_id of the component).

    ``pairs`` has ``a``, ``b`` (binary(16)) and, where a ``threshold`` is given, ``similarity``. Rows come in
    the order of doc_id. Holds 32 bytes for each pair and 24 for each document.
    """
    held = [np.concatenate([a, b]) for a, b in _edges(pairs, threshold)]
    # Both ends of every pair, batch by batch: rows [0, n) of a batch are its a, rows [n, 2 n) its b.
    ids = sorted_distinct(np.concatenate(held) if held else np.empty((0, 2), dtype=np.uint64))
    parents = np.arange(len(ids), dtype=np.int64)
    for ends in held:
        places = find_ids(ids, ends)
        join_components(parents, places[: len(ends) // 2], places[len(ends) // 2 :])
    settle_components(parents)
    return pa.table({"doc_id": ids_to_arrow(ids), "cluster_id": ids_to_arrow(ids[parents])})


def total_clusters(
    doc_ids: Stream | pa.Array | pa.ChunkedArray, pairs: Stream, *, threshold: float | None = None
) -> pa.Table:
    """One row per document: ``doc_id``, ``cluster_id``, ``cluster_size`` (int64).

    A document without a twin has its own id and size 1. ``doc_ids`` is an array, or a table or stream with
    that column; only pairs of at least ``threshold`` count (all of them without one; compared as float32, as
    similarities are stored). Rows come in the order of doc_id. Raises DataMismatch when a pair names a
    document that is not there. Holds 40 bytes for each document.
    """
    ids = sorted_distinct(all_ids(doc_ids))
    parents = np.arange(len(ids), dtype=np.int64)
    for a, b in _edges(pairs, threshold):
        ends = np.concatenate([a, b])
        places = find_ids(ids, ends)
        if (places < 0).any():
            missing = ids_to_arrow(ends[places < 0][:1])[0].as_py().hex()
            raise DataMismatch(
                f"a duplicate pair names document {missing}, which is not among the {len(ids)} documents",
                hint="the pairs were made from another version of the documents; build them again",
            )
        join_components(parents, places[: len(a)], places[len(a) :])
    settle_components(parents)
    sizes = np.bincount(parents, minlength=len(ids)).astype(np.int64)
    return pa.table(
        {
            "doc_id": ids_to_arrow(ids),
            "cluster_id": ids_to_arrow(ids[parents]),
            "cluster_size": pa.array(sizes[parents] if len(ids) else sizes[:0]),
        }
    )


def _edges(pairs: Stream, threshold: float | None) -> Iterator[tuple[Ids, Ids]]:
    for batch in _batches(pairs):
        for column in ("a", "b", *(("similarity",) if threshold is not None else ())):
            if column not in batch.schema.names:
                raise UnknownName.of("column", column, batch.schema.names, where="pairs")
        if threshold is not None:
            similar = batch.column("similarity").to_numpy(zero_copy_only=False).astype(np.float32)
            keep: npt.NDArray[np.bool_] = similar >= np.float32(threshold)
            if not keep.all():
                batch = batch.filter(pa.array(keep))
        if batch.num_rows:
            yield ids_from_arrow(batch.column("a"), "a"), ids_from_arrow(batch.column("b"), "b")


def all_ids(doc_ids: Stream | pa.Array | pa.ChunkedArray) -> Ids:
    if isinstance(doc_ids, pa.Array | pa.ChunkedArray):
        return ids_from_arrow(doc_ids)
    parts = [ids_from_arrow(batch.column("doc_id")) for batch in _batches(doc_ids)]
    return np.concatenate(parts) if parts else np.empty((0, 2), dtype=np.uint64)


def _batches(stream: Stream) -> Iterator[pa.RecordBatch]:
    yield from stream.to_batches() if isinstance(stream, pa.Table) else stream
