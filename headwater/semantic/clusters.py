"""The table ``semantic_clusters``: which cluster a document is in, and how typical it is there."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from headwater.dedup.clusters import Stream, all_ids
from headwater.dedup.ids import Ids, ids_from_arrow, ids_to_arrow, sorted_distinct
from headwater.engine import ordered_map
from headwater.errors import UsageError
from headwater.kernels.cosine import Flags, Matrix, Places, center
from headwater.kernels.pairs import find_ids
from headwater.kernels.xxh3 import xxh3_64
from headwater.semantic.kmeans import ITERATIONS, Centroids, train
from headwater.semantic.vectors import (
    Embeddings,
    Mean,
    dimensions_of,
    embedded_ids,
    order_of,
    vector_batches,
)

SAMPLE_ROWS = 100_000
"""Documents that train the centroids: 154 MB at 384 dimensions."""

CLUSTERS = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("cluster_id", pa.int32()),
        ("centroid_similarity", pa.float32()),
        ("cluster_rank", pa.int64()),
    ]
)


def default_clusters(num_documents: int) -> int:
    """The square root of the documents: assigning and comparing within clusters then cost alike."""
    return max(1, round(math.sqrt(num_documents)))


def semantic_clusters(
    embeddings: Embeddings,
    *,
    k: int | None = None,
    among: Stream | pa.Array | pa.ChunkedArray | None = None,
    centered: bool = True,
    sample_rows: int = SAMPLE_ROWS,
    iterations: int = ITERATIONS,
    seed: int = 0,
    threads: int | None = None,
) -> pa.Table:
    """Cluster documents by the direction of their vectors (spherical k-means).

    Parameters
    ----------
    embeddings: ``doc_id``, ``embedding``: a lake table or an Arrow table. It is streamed three times: ids,
        the sample, and all of it to assign.
    k: clusters at most; the square root of the number of documents without it. Clusters without a document
        are left out.
    among: documents to cluster (an array, or a table or stream with ``doc_id``); all without it. Those that
        have no embedding are not in the result.
    centered: subtract the mean of all these documents' vectors first. Vectors of many models share a large
        part, so that any two texts have a high cosine; what is left tells them apart.
    sample_rows: documents that train the centroids, those with the smallest seeded hash of their id. They are
        what memory holds: 4 bytes a dimension each, and besides them some 80 bytes for each document.

    Returns
    -------
    ``doc_id``, ``cluster_id`` (int32; 0 is the largest cluster), ``centroid_similarity`` (cosine to the
    centroid: prototypicality) and ``cluster_rank`` (1 is the most typical of its cluster), in the order of
    doc_id. The same rows whatever the order of the embeddings, the batches or the threads. A vector without
    a direction (zeros, NaN) gives nulls: unknown.
    """
    if k is not None and k < 1:
        raise UsageError(f"k must be at least 1, got {k}")
    if sample_rows < 1 or iterations < 1:
        raise UsageError(f"sample_rows and iterations must be at least 1, got {sample_rows}, {iterations}")
    dimensions_of(embeddings)
    ids = embedded_ids(embeddings)
    if among is not None:
        ids = ids[find_ids(sorted_distinct(all_ids(among)), ids) >= 0]
    ids = np.ascontiguousarray(ids[order_of(ids)])
    if len(ids) == 0:
        return CLUSTERS.empty_table()
    wanted = default_clusters(len(ids)) if k is None else k
    sample, mean = _sample(embeddings, ids, _sampled(ids, sample_rows, seed))
    if not centered:
        mean = np.zeros_like(mean)
    center(sample, mean)
    if len(sample) == 0:
        return _table(ids, np.full(len(ids), -1, dtype=np.int32), np.zeros(len(ids), dtype=np.float32))
    centroids = train(sample, wanted, seed=seed, iterations=iterations, threads=threads)
    del sample
    cluster, similarity = _assign(embeddings, ids, centroids, mean, threads)
    return _table(ids, cluster, similarity)


def _sampled(ids: Ids, rows: int, seed: int) -> Ids:
    """The ids with the smallest hashes, ascending."""
    if len(ids) <= rows:
        return ids
    hashes = xxh3_64(ids_to_arrow(ids), seed)
    chosen = np.sort(np.argsort(hashes, kind="stable")[:rows])  # equal hashes: the smaller id
    return np.ascontiguousarray(ids[chosen])


def _sample(embeddings: Embeddings, all_of_them: Ids, wanted: Ids) -> tuple[Matrix, Matrix]:
    """The vectors of ``wanted``, and the mean of all."""
    mean = Mean(dimensions_of(embeddings))
    rows = np.zeros((len(wanted), dimensions_of(embeddings)), dtype=np.float32)
    usable = np.zeros(len(wanted), dtype=np.bool_)
    for ids, vectors, good in vector_batches(embeddings):
        mean.add(vectors[(find_ids(all_of_them, ids) >= 0) & good])
        places = find_ids(wanted, ids)
        take = (places >= 0) & good
        rows[places[take]] = vectors[take]
        usable[places[take]] = True
    return rows if usable.all() else np.ascontiguousarray(rows[usable]), mean.vector()


def _assign(
    embeddings: Embeddings, wanted: Ids, centroids: Centroids, mean: Matrix, threads: int | None
) -> tuple[Places, Matrix]:
    cluster = np.full(len(wanted), -1, dtype=np.int32)
    similarity = np.zeros(len(wanted), dtype=np.float32)

    def assigned(batch: tuple[Ids, Matrix, Flags]) -> tuple[Ids, Flags, Places, Matrix]:
        ids, vectors, usable = batch
        center(vectors, mean)
        return ids, usable, *centroids.nearest(vectors)

    for ids, usable, best, cosine in ordered_map(assigned, vector_batches(embeddings), threads=threads):
        places = find_ids(wanted, ids)
        take = (places >= 0) & usable
        cluster[places[take]] = best[take]
        similarity[places[take]] = np.clip(cosine[take], -1, 1)
    return cluster, similarity


def _table(ids: Ids, cluster: Places, similarity: Matrix) -> pa.Table:
    """Number the clusters by size (of equals, first the one with the smallest doc_id) and rank members."""
    known = cluster >= 0
    sizes = np.bincount(cluster[known], minlength=1)
    firsts = np.full(len(sizes), len(ids), dtype=np.int64)
    np.minimum.at(firsts, cluster[known], np.flatnonzero(known))
    by_size = np.lexsort((firsts, -sizes))
    numbers = np.empty(len(sizes), dtype=np.int32)
    numbers[by_size] = np.arange(len(sizes), dtype=np.int32)
    numbered = np.where(known, numbers[np.maximum(cluster, 0)], -1).astype(np.int32)
    order = np.lexsort((np.arange(len(ids)), -similarity, numbered))
    first = np.searchsorted(numbered[order], numbered, side="left")
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[order] = np.arange(len(ids))
    ranks = ranks - first + 1
    unknown = ~known
    return pa.table(
        [
            ids_to_arrow(ids),
            pa.array(numbered, mask=unknown),
            pa.array(similarity, mask=unknown),
            pa.array(ranks, mask=unknown),
        ],
        schema=CLUSTERS,
    )


class Members:
    """Documents by cluster: the ids of cluster c are ``ids[starts[c] : starts[c + 1]]``, ascending."""

    def __init__(self, clusters: Stream) -> None:
        parts_ids, parts_cluster = [], []
        batches = clusters.to_batches() if isinstance(clusters, pa.Table) else clusters
        for batch in batches:
            known = batch.filter(batch.column("cluster_id").is_valid())
            parts_ids.append(ids_from_arrow(known.column("doc_id")))
            numbers = known.column("cluster_id").to_numpy(zero_copy_only=False)
            if len(numbers) and numbers.min() < 0:
                raise UsageError("cluster_id must not be negative")
            parts_cluster.append(numbers.astype(np.int64))
        ids = np.concatenate(parts_ids) if parts_ids else np.empty((0, 2), dtype=np.uint64)
        cluster = np.concatenate(parts_cluster) if parts_cluster else np.empty(0, dtype=np.int64)
        order = np.lexsort((ids[:, 1], ids[:, 0], cluster))
        self.ids: Ids = np.ascontiguousarray(ids[order])
        self.clusters = cluster[order]
        self.starts = np.searchsorted(self.clusters, np.arange(self.num_clusters + 1))

    @property
    def num_clusters(self) -> int:
        return int(self.clusters[-1]) + 1 if len(self.clusters) else 0

    def ranges(self) -> Iterator[tuple[int, int]]:
        yield from zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)


__all__ = ["CLUSTERS", "SAMPLE_ROWS", "Members", "default_clusters", "semantic_clusters"]
