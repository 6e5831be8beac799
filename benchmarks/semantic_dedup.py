"""Semantic clusters and pairs against scikit-learn's k-means and a numpy loop, on the embeddings of a lake.

    OMP_NUM_THREADS=1 python benchmarks/semantic_dedup.py [--lake lake] [--table dev.embeddings] [--k 0]

Everything runs on one thread and is told in seconds of processor time, on the same vectors (mean subtracted,
length one) and with the same k. What is compared: training and assigning (ours streams the table; scikit-learn
has it in memory), how well the clusters fit (mean cosine to the centroid), and finding all pairs of a cluster
above a floor (scikit-learn's clusters, one matrix product each: the loop that SemDeDup publishes; it has the vectors in memory, ours reads the table, lays
the vectors out in a file and makes rows with ids). Then every pair of the whole corpus is found by brute
force, and counted: how many of them lie in one cluster, which is what looking within clusters can find.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from typing import Any

import numpy as np
import pyarrow as pa

import headwater as hw
from headwater.dedup.ids import ids_to_arrow
from headwater.semantic import default_clusters, semantic_clusters, semantic_pairs
from headwater.semantic.vectors import Mean, embedded_ids, order_of, vector_batches

THRESHOLDS = [0.9, 0.95, 0.97, 0.99]


def loaded(table: Any, centered: bool) -> np.ndarray:
    """All vectors in the order of doc_id, as semantic_clusters sees them."""
    ids = embedded_ids(table)
    rows = np.concatenate([vectors for _, vectors, _ in vector_batches(table)])[order_of(ids)]
    if centered:
        mean = Mean(rows.shape[1])
        mean.add(rows)
        rows = rows - mean.vector()
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows


def multiplied(table: Any, copies: int) -> pa.Table:
    ids = embedded_ids(table)
    rows = np.concatenate([vectors for _, vectors, _ in vector_batches(table)])
    rng = np.random.default_rng(0)
    ids = np.concatenate([ids + np.uint64(i) * np.array([0, 1], dtype=np.uint64) for i in range(copies)])
    noisy = [rows + rng.normal(0, 0.02, rows.shape).astype(np.float32) for _ in range(copies)]
    flat = pa.array(np.concatenate(noisy).ravel())
    return pa.table({
        "doc_id": ids_to_arrow(ids),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1]),
    })  # fmt: skip


def numpy_pairs(rows: np.ndarray, labels: np.ndarray, floor: float) -> int:
    found = []
    for cluster in np.unique(labels):
        places = np.flatnonzero(labels == cluster)
        own = rows[places]
        products = own @ own.T
        a, b = np.nonzero(np.triu(products >= floor, 1))
        found.append((places[a], places[b], products[a, b]))
    return sum(len(similarity) for _, _, similarity in found)


def fit(rows: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for cluster in np.unique(labels):
        own = rows[labels == cluster].astype(np.float64)
        total += float(np.linalg.norm(own.sum(axis=0)))
    return total / len(rows)


def seconds(work: Any) -> tuple[float, Any]:
    """Of processor time, Lance's readers included: what another process takes on a shared machine does not count."""
    start = time.process_time()
    result = work()
    return round(time.process_time() - start, 2), result


def recall(rows: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
    pairs, within = dict.fromkeys(THRESHOLDS, 0), dict.fromkeys(THRESHOLDS, 0)
    twin = {t: np.zeros(len(rows), dtype=bool) for t in THRESHOLDS}
    near = {t: np.zeros(len(rows), dtype=bool) for t in THRESHOLDS}
    for start in range(0, len(rows), 1024):
        products = rows[start : start + 1024] @ rows[start:].T
        a, b = np.nonzero(products >= min(THRESHOLDS))
        value = products[a, b]
        a, b = a + start, b + start
        for threshold in THRESHOLDS:
            keep = (value >= threshold) & (a < b)
            one, two = a[keep], b[keep]
            same = labels[one] == labels[two]
            pairs[threshold] += len(one)
            within[threshold] += int(same.sum())
            twin[threshold][one] = twin[threshold][two] = True
            near[threshold][one[same]] = near[threshold][two[same]] = True
    return {
        str(t): {
            "pairs": pairs[t],
            "within_clusters": within[t],
            "recall_of_pairs": round(within[t] / max(1, pairs[t]), 4),
            "documents_with_a_twin": int(twin[t].sum()),
            "of_which_found": round(float(near[t].sum() / max(1, twin[t].sum())), 4),
        }
        for t in THRESHOLDS
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lake", default="lake")
    parser.add_argument("--table", default="dev.embeddings")
    parser.add_argument("--k", type=int, default=0)
    parser.add_argument("--floor", type=float, default=0.9)
    parser.add_argument(
        "--copies", type=int, default=1, help="so many noisy copies of each vector, in memory"
    )
    parser.add_argument("--raw", action="store_true", help="do not subtract the mean")
    given = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: both sides run on one thread")
    table: Any = hw.Lake(given.lake).table(given.table)
    table = table if given.copies == 1 else multiplied(table, given.copies)
    options: dict[str, Any] = {"threads": 1, "centered": not given.raw}
    k = given.k or default_clusters(table.num_rows)
    semantic_clusters(table, k=2, iterations=1, sample_rows=100, **options)  # compiles
    list(semantic_pairs(table, semantic_clusters(table, k=k, iterations=1, **options), floor=1.0, **options))
    cluster_seconds, clusters = seconds(lambda: semantic_clusters(table, k=k, **options))
    pair_seconds, pairs = seconds(
        lambda: semantic_pairs(
            table, clusters, floor=given.floor, pairs_per_member=10**6, **options
        ).read_all()
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = loaded(table, not given.raw)
    labels = clusters["cluster_id"].fill_null(-1).to_numpy()
    report: dict[str, Any] = {
        "documents": len(rows), "dimensions": rows.shape[1], "k": k, "floor": given.floor,
        "headwater": {
            "clusters_seconds": cluster_seconds, "pairs_seconds": pair_seconds, "pairs": pairs.num_rows,
            "mean_cosine_to_centroid": round(fit(rows, labels), 4), "peak_megabytes": round(memory),
        },
    }  # fmt: skip
    from sklearn.cluster import KMeans, MiniBatchKMeans

    for name, model in {
        "sklearn KMeans": KMeans(k, n_init=1, max_iter=25, random_state=0),
        "sklearn MiniBatchKMeans": MiniBatchKMeans(k, n_init=1, batch_size=4096, max_iter=25, random_state=0),
    }.items():
        spent, fitted = seconds(lambda model=model: model.fit(rows))
        spent_on_pairs, found = seconds(lambda fitted=fitted: numpy_pairs(rows, fitted.labels_, given.floor))
        report[name] = {
            "clusters_seconds": spent, "pairs_seconds": spent_on_pairs, "pairs": found,
            "mean_cosine_to_centroid": round(fit(rows, fitted.labels_), 4), "iterations": int(fitted.n_iter_),
        }  # fmt: skip
    spent, report["brute_force"] = seconds(lambda: recall(rows, labels))
    report["brute_force_seconds"] = spent
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
