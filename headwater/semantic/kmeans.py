"""Spherical k-means over a sample that fits in memory: the same centroids for the same documents.

Everything happens in the order of doc_id: the sample, the draws of the first centroids (by a seeded
hash), the sums (float64, one row after the other) and ties. Only products run on threads, and those
do not depend on the others (``headwater.kernels.cosine``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headwater.engine import ordered_map
from headwater.kernels.cosine import (
    Matrix,
    Places,
    add_to_clusters,
    lower_distances,
    nearest,
    pack,
    place_of_weight,
    products_with,
    to_unit,
)
from headwater.kernels.xxh3 import xxh3_64

ITERATIONS = 25
"""Passes over the sample at most."""
SETTLED = 0.001
"""Share of rows that change their cluster in the last pass."""
FIRST_ROWS = 10_000
"""Rows from which the first centroids are drawn, or four for each centroid."""
TRIALS = 4
"""Rows of which one becomes the next first centroid."""
CHUNK = 4096


@dataclass(frozen=True)
class Centroids:
    """Unit vectors, and the same packed for products."""

    vectors: Matrix
    panels: Matrix

    @classmethod
    def of(cls, vectors: Matrix) -> Centroids:
        return cls(vectors, pack(vectors))

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest(self, rows: Matrix) -> tuple[Places, Matrix]:
        """The nearest centroid of each row and the cosine to it; of equals the first."""
        best = np.empty(len(rows), dtype=np.int32)
        similarity = np.empty(len(rows), dtype=np.float32)
        nearest(rows, self.panels, len(self.vectors), best, similarity)
        return best, similarity


def train(
    rows: Matrix, k: int, *, seed: int = 0, iterations: int = ITERATIONS, threads: int | None = None
) -> Centroids:
    """At most ``k`` centroids of unit vectors (fewer where there are fewer different ones).

    ``rows`` decide the result by their order; give them in the order of doc_id.
    """
    centroids = Centroids.of(_first(rows, k, seed))
    before: Places | None = None
    for _ in range(iterations):
        cluster, similarity = assign(rows, centroids, threads=threads)
        changed = len(rows) if before is None else int((cluster != before).sum())
        centroids = Centroids.of(_means(rows, cluster, similarity, centroids.vectors))
        before = cluster
        if changed <= SETTLED * len(rows):
            break
    return centroids


def assign(rows: Matrix, centroids: Centroids, *, threads: int | None = None) -> tuple[Places, Matrix]:
    """The nearest centroid of each row, and the cosine to it."""
    chunks = (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    found = list(ordered_map(centroids.nearest, chunks, threads=threads))
    if not found:
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
    return np.concatenate([c for c, _ in found]), np.concatenate([s for _, s in found])


def _first(rows: Matrix, k: int, seed: int) -> Matrix:
    """Greedy k-means++: of a few rows drawn by their distance, the one that lowers all distances most."""
    step = max(1, len(rows) // max(FIRST_ROWS, 4 * k))
    pool = np.ascontiguousarray(rows[::step])
    columns = np.ascontiguousarray(pool.T)
    distances = np.full(len(pool), 2.0)
    products = np.empty(len(pool), dtype=np.float32)
    total = 2.0 * len(pool)
    chosen: list[int] = []
    for draws in _draws(seed, k):
        best, left, place = None, np.inf, 0
        for draw in draws if chosen else draws[:1]:
            trial = int(place_of_weight(distances, draw * total))
            products_with(columns, pool[trial], products)
            lowered = distances.copy()
            sum_of_them = lower_distances(products, lowered)
            if sum_of_them < left:
                best, left, place = lowered, sum_of_them, trial
        assert best is not None
        distances, total = best, left
        distances[place] = 0.0
        chosen.append(place)
        if total <= 1e-6 * len(pool):  # every row of the pool is one of those drawn
            break
    return pool[chosen]


def _draws(seed: int, count: int) -> Iterator[list[float]]:
    """Numbers in [0, 1) that only the seed decides."""
    for i in range(count):
        hashes = xxh3_64(pa.array([b"k-means++ %d %d" % (i, j) for j in range(TRIALS)]), seed)
        yield ((hashes >> np.uint64(11)).astype(np.float64) / 2.0**53).tolist()


def _means(rows: Matrix, cluster: Places, similarity: Matrix, before: Matrix) -> Matrix:
    """The direction of each cluster's sum; an empty one moves to the row that fits its own least."""
    sums = np.zeros(before.shape)
    sizes = np.zeros(len(before), dtype=np.int64)
    add_to_clusters(rows, cluster, sums, sizes)
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        worst = np.lexsort((np.arange(len(rows)), similarity))[: len(empty)]
        sums[empty[: len(worst)]] = rows[worst]
    lengths = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
    vectors = np.where(lengths > 1e-12, sums / np.maximum(lengths, 1e-12), before).astype(np.float32)
    usable = np.empty(len(vectors), dtype=np.bool_)
    to_unit(vectors, usable)
    return vectors
