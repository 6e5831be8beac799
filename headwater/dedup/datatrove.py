"""datatrove's MinHash deduplication, decision for decision.

From the signatures of the operator ``datatrove_minhash``: documents that agree in all minima of a bucket are
joined, and one of each cluster is kept. datatrove joins neighbors in the order of (bucket, minima, document)
and keeps the root of a union by size, which is not always the first document; the same order and the same
unions are made here, so the same documents are removed.

Pairs are not verified: this reproduces what datatrove does. :func:`headwater.dedup.near_duplicate_pairs`
finds more and is exact.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from headwater.dedup.clusters import Stream
from headwater.dedup.ids import ids_from_arrow, ids_to_arrow
from headwater.dedup.scratch import scratch
from headwater.errors import UnknownName, UsageError
from headwater.kernels.datatrove import join_by_size, roots
from headwater.kernels.flat import whole
from headwater.kernels.pairs import band_keys

MEMORY_BYTES = 1 << 30

_ROWS = 1 << 16


def datatrove_clusters(
    signatures: Stream,
    *,
    num_buckets: int = 14,
    hashes_per_bucket: int = 8,
    memory_bytes: int = MEMORY_BYTES,
    threads: int | None = None,
) -> pa.Table:
    """Documents in a cluster of two or more: ``doc_id``, and ``cluster_id``, the document datatrove keeps.

    ``signatures`` has ``doc_id`` (binary(16)) and ``datatrove_minhash``, in the order in which datatrove
    would read the documents: by file, then by line. datatrove removes the rows whose doc_id is not their
    cluster_id. Rows come in the order of ``signatures``. Holds 32 bytes for each document.
    """
    width = num_buckets * hashes_per_bucket
    with (
        tempfile.TemporaryDirectory(prefix="headwater-datatrove-") as folder,
        scratch(Path(folder), limit_bytes=memory_bytes // 2, threads=threads) as connection,
    ):
        run = connection.execute
        run("create table bands (bucket usmallint, key ubigint, minima ubigint[], doc uinteger)").fetchall()
        ids = [np.empty((0, 2), dtype=np.uint64)]
        read = 0
        for batch in signatures.to_batches() if isinstance(signatures, pa.Table) else signatures:
            for column in ("doc_id", "datatrove_minhash"):
                if column not in batch.schema.names:
                    raise UnknownName.of("column", column, batch.schema.names, where="signatures")
            ids.append(ids_from_arrow(batch.column("doc_id")))
            for bands in _bands(batch.column("datatrove_minhash"), read, width, num_buckets):
                connection.register("incoming", bands)
                run("insert into bands select * from incoming").fetchall()
                connection.unregister("incoming")
            read += batch.num_rows
        parents = np.arange(read, dtype=np.int64)
        sizes = np.ones(read, dtype=np.int64)
        pairs = """
            with met as (
                select bucket, minima, doc from bands
                where (bucket, key) in (
                    select (bucket, key) from bands group by bucket, key having count(*) > 1
                )
            )
            select bucket, minima, doc,
                lag(doc) over sorted as before,
                lag(minima) over sorted is not distinct from minima
                    and lag(bucket) over sorted = bucket as same
            from met window sorted as (order by bucket, minima, doc)
            qualify same order by bucket, minima, doc"""
        for found in connection.sql(f"select before, doc from ({pairs})").to_arrow_reader(_ROWS):
            before, doc = (found.column(i).to_numpy().astype(np.int64) for i in range(2))
            join_by_size(before, doc, parents, sizes)
    roots(parents)
    clustered = np.flatnonzero(np.bincount(parents, minlength=read)[parents] > 1) if read else parents
    all_ids = np.concatenate(ids)
    return pa.table(
        {"doc_id": ids_to_arrow(all_ids[clustered]), "cluster_id": ids_to_arrow(all_ids[parents[clustered]])}
    )


def _bands(minima: pa.Array, first: int, width: int, num_buckets: int) -> Iterator[pa.Table]:
    """One row per bucket of each document that has minima."""
    column = whole(minima)
    lengths = np.asarray(column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
    present = np.flatnonzero(lengths > 0)
    if not len(present):
        return
    if (lengths[present] != width).any():
        raise UsageError(
            f"signatures must have num_buckets x hashes_per_bucket = {width} minima, "
            f"got {int(lengths[present][lengths[present] != width][0])}"
        )
    values = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.uint64)
    depth = width // num_buckets
    for start in range(0, len(present), _ROWS // num_buckets):
        docs = present[start : start + _ROWS // num_buckets]
        part = np.ascontiguousarray(values[start * width : (start + len(docs)) * width])
        # Upper and lower halves, for the keys of the 32-bit minhash.
        keys = band_keys(part.view(np.uint32).reshape(len(docs), 2 * width), num_buckets, 2 * depth)
        offsets = np.arange(len(docs) * num_buckets + 1, dtype=np.int32) * depth
        yield pa.table(
            {
                "bucket": np.tile(np.arange(num_buckets, dtype=np.uint16), len(docs)),
                "key": keys.reshape(-1),
                "minima": pa.ListArray.from_arrays(pa.array(offsets), pa.array(part)),
                "doc": np.repeat((docs + first).astype(np.uint32), num_buckets),
            }
        )
