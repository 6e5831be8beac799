"""The table ``semantic_pairs``: documents of one cluster whose vectors point the same way.

Vectors are laid out by cluster in a temporary file, then each cluster is compared with itself in blocks. In
memory: the blocks, some 60 bytes for each document, and the pairs of the clusters at work.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from headwater.dedup.clusters import Stream, total_clusters
from headwater.dedup.ids import Ids, ids_to_arrow
from headwater.engine import ordered_map
from headwater.errors import DataMismatch, UsageError
from headwater.kernels.cosine import (
    Matrix,
    Places,
    center,
    first_equals,
    forest_edges,
    pack,
    pairs_above,
    row_hashes,
)
from headwater.kernels.pairs import find_ids
from headwater.semantic.clusters import Members
from headwater.semantic.vectors import Embeddings, Mean, dimensions_of, order_of, vector_batches

PAIRS_PER_MEMBER = 64
"""Pairs for each document of a cluster up to which all are listed; of denser ones only the forest is."""
PAIRS_AT_MOST = 4_000_000
"""The same for a cluster as a whole: 48 MB."""
BLOCK = 1024
"""Rows and columns compared in one task: at most half a million pairs on the diagonal, 12 MB off it."""
SMALL = 4096
"""Documents up to which a cluster is one task; larger ones run block by block on all threads."""

SEMANTIC_PAIRS = pa.schema(
    [("a", pa.binary(16)), ("b", pa.binary(16)), ("similarity", pa.float32()), ("kind", pa.string())]
)

Edges = tuple[Places, Places, Matrix]
NO_EDGES: Edges = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))


def semantic_pairs(
    embeddings: Embeddings,
    clusters: Stream,
    *,
    floor: float = 0.9,
    centered: bool = True,
    pairs_per_member: int = PAIRS_PER_MEMBER,
    threads: int | None = None,
) -> pa.RecordBatchReader:
    """Pairs of documents of one cluster with a cosine of at least ``floor``, as a stream.

    ``clusters``: ``doc_id`` and ``cluster_id`` (integers; nulls are left out), as
    :func:`headwater.semantic.semantic_clusters` makes them; ``centered`` as there: the mean of the clustered
    documents' vectors is subtracted first. The columns are ``a`` < ``b``, ``similarity`` (float32) and
    ``kind``; the rows come by cluster, then by a and b, and are the same whatever the order of the
    embeddings, the batches or the threads.

    All pairs are listed (kind ``pair``) but in clusters with more than ``pairs_per_member`` for each document
    (or 4,000,000): there only the maximum spanning forest is (kind ``link``): a document's most similar one,
    and what connects them. At any threshold from the floor on, connected components are those of all pairs.

    Raises DataMismatch when a document of ``clusters`` has no vector.
    """
    if not 0 < floor <= 1:
        raise UsageError(f"floor must be above 0 and at most 1, got {floor}")
    if pairs_per_member < 1:
        raise UsageError(f"pairs_per_member must be at least 1, got {pairs_per_member}")
    dimensions = dimensions_of(embeddings)

    def stream() -> Iterator[pa.RecordBatch]:
        members = Members(clusters)
        with tempfile.TemporaryDirectory(prefix="headwater-semantic-") as folder:
            vectors = _laid_out(embeddings, members, dimensions, Path(folder), centered)
            lowest, cap = np.float32(floor), pairs_per_member
            for is_large, ranges in itertools.groupby(members.ranges(), lambda r: r[1] - r[0] > SMALL):
                if is_large:
                    for start, stop in ranges:
                        found = _compare(vectors[start:stop], lowest, cap, threads)
                        yield from _batches(members.ids[start:stop], *found)
                    continue

                def small(place: tuple[int, int]) -> tuple[Ids, Edges, str]:
                    start, stop = place
                    return members.ids[start:stop], *_compare(vectors[start:stop], lowest, cap, 1)

                for ids, edges, kind in ordered_map(small, ranges, threads=threads):
                    yield from _batches(ids, edges, kind)

    return pa.RecordBatchReader.from_batches(SEMANTIC_PAIRS, stream())


def semantic_duplicates(clusters: Stream, pairs: Stream, *, threshold: float) -> pa.Table:
    """One row per document that was compared: ``doc_id``, ``cluster_id`` and ``cluster_size``.

    ``cluster_id`` is the smallest id of its component of pairs of at least ``threshold``; its own alone.

    A document whose vector has no direction was compared with none: it has no row, which is unknown.
    """
    table = clusters if isinstance(clusters, pa.Table) else pa.Table.from_batches(list(clusters))
    compared = table.filter(table["cluster_id"].is_valid())
    return total_clusters(compared["doc_id"], pairs, threshold=threshold)


def _laid_out(
    embeddings: Embeddings, members: Members, dimensions: int, folder: Path, centered: bool
) -> Matrix:
    """The vectors in the order of ``members``, in a file that is mapped into memory."""
    rows = len(members.ids)
    if rows == 0:
        return np.empty((0, dimensions), dtype=np.float32)
    vectors = np.memmap(folder / "vectors", dtype=np.float32, mode="w+", shape=(rows, dimensions))
    order = order_of(members.ids)
    ascending = np.ascontiguousarray(members.ids[order])
    seen, mean = 0, Mean(dimensions)
    for ids, batch, usable in vector_batches(embeddings):
        places = find_ids(ascending, ids)
        take = places >= 0
        vectors[order[places[take]]] = batch[take]
        mean.add(batch[take])
        seen += int((take & usable).sum())
    if seen < rows:
        raise DataMismatch(
            f"{rows - seen} of {rows} clustered documents have no vector",
            hint="the clusters were made from other embeddings: build semantic_clusters again",
        )
    if centered:
        for start in range(0, rows, BLOCK):
            center(vectors[start : start + BLOCK], mean.vector())
    return vectors


def _compare(vectors: Matrix, floor: np.float32, cap: int, threads: int | None) -> tuple[Edges, str]:
    """The edges of one cluster, and what they are: all pairs, or the links of a forest."""
    limit = min(cap * len(vectors), PAIRS_AT_MOST)
    held: list[Edges] = []
    count = 0
    for edges in _blocks(vectors, floor, threads):
        held.append(edges)
        count += len(edges[0])
        if count > limit:
            return _forest(vectors, floor, threads), "link"
    return _joined(held), "pair"


def _blocks(vectors: Matrix, floor: np.float32, threads: int | None) -> Iterator[Edges]:
    """Edges of each block of rows with each block from it on."""
    starts = range(0, len(vectors), BLOCK)

    def tasks() -> Iterator[tuple[int, int, Matrix]]:
        for column in starts:
            panels = pack(np.ascontiguousarray(vectors[column : column + BLOCK]))
            for row in range(0, column + 1, BLOCK):
                yield row, column, panels

    def run(task: tuple[int, int, Matrix]) -> Edges:
        row, column, panels = task
        rows = np.ascontiguousarray(vectors[row : row + BLOCK])
        width = min(BLOCK, len(vectors) - column)
        room = len(rows) * width
        a, b, s = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float32)
        found = pairs_above(rows, panels, width, row == column, floor, a, b, s)
        return a[:found] + np.int32(row), b[:found] + np.int32(column), s[:found].copy()

    if len(vectors) > 1:
        yield from ordered_map(run, tasks(), threads=threads)


def _forest(vectors: Matrix, floor: np.float32, threads: int | None) -> Edges:
    """The maximum spanning forest of all pairs, block by block: of equal vectors one stands for all."""
    whole = np.ascontiguousarray(vectors)
    hashes = row_hashes(whole)
    first = first_equals(whole, hashes, np.lexsort((np.arange(len(whole)), hashes)))
    copies = np.flatnonzero(first != np.arange(len(whole))).astype(np.int32)
    alone = np.flatnonzero(first == np.arange(len(whole))).astype(np.int32)
    edges: Edges = NO_EDGES
    waiting: list[Edges] = []
    room = max(1 << 20, 4 * len(alone))
    for a, b, similarity in _blocks(whole[alone] if len(copies) else whole, floor, threads):
        waiting.append((a, b, similarity))
        if sum(len(held[0]) for held in waiting) > room:
            edges, waiting = _strongest(len(alone), _joined([edges, *waiting])), []
    a, b, similarity = _strongest(len(alone), _joined([edges, *waiting]))
    equal = np.ones(len(copies), dtype=np.float32)
    return _joined([(alone[a], alone[b], similarity), (first[copies], copies, equal)])


def _strongest(count: int, edges: Edges) -> Edges:
    """A maximum spanning forest; of equal weights the edge with the smallest ends."""
    a, b, similarity = edges
    order = np.lexsort((b, a, -similarity))
    taken = order[forest_edges(count, a[order], b[order])]
    return a[taken], b[taken], similarity[taken]


def _joined(edges: list[Edges]) -> Edges:
    if not edges:
        return NO_EDGES
    return tuple(np.concatenate([held[i] for held in edges]) for i in range(3))  # type: ignore[return-value]


def _batches(ids: Ids, edges: Edges, kind: str) -> Iterator[pa.RecordBatch]:
    a, b, similarity = edges
    order = np.lexsort((b, a))
    for start in range(0, len(order), 65_536):
        part = order[start : start + 65_536]
        yield pa.record_batch(
            [
                ids_to_arrow(ids[a[part]]),
                ids_to_arrow(ids[b[part]]),
                pa.array(similarity[part]),
                pa.array([kind]).take(pa.array(np.zeros(len(part), dtype=np.int32))),
            ],
            schema=SEMANTIC_PAIRS,
        )


__all__ = ["PAIRS_PER_MEMBER", "SEMANTIC_PAIRS", "semantic_duplicates", "semantic_pairs"]
