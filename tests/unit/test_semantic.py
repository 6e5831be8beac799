"""Clusters, pairs and topics from embeddings: right against plain numpy, the same in any order and on any threads."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.errors import DataMismatch, UnknownName, UsageError
from headwater.kernels.cosine import center, forest_edges, pack, pair_products, pairs_above, to_unit
from headwater.semantic import semantic_clusters, semantic_duplicates, semantic_pairs, topics
from headwater.semantic.kmeans import Centroids, train

Vectors = np.ndarray[Any, np.dtype[np.float32]]


def ids(count: int) -> pa.Array:
    return pa.array([xxhash.xxh3_128_digest(b"%d" % i) for i in range(count)], pa.binary(16))


def table(vectors: Vectors, order: Any = None, model: str = "toy@1") -> pa.Table:
    order = np.arange(len(vectors)) if order is None else order
    rows = vectors[order]
    return pa.table({
        "doc_id": ids(len(vectors)).take(pa.array(order)),
        "model": pa.array([model] * len(rows)),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), vectors.shape[1]),
    })  # fmt: skip


def groups(
    kinds: int = 5, each: int = 60, dimensions: int = 24, noise: float = 0.3, seed: int = 0
) -> Vectors:
    """Vectors around a few directions and one that all share; every tenth is a near copy of its neighbor."""
    rng = np.random.default_rng(seed)
    around = rng.standard_normal((kinds, dimensions))[np.arange(kinds * each) % kinds]
    vectors = 3 + around + noise * rng.standard_normal(around.shape)
    vectors[kinds::10] = vectors[: len(vectors) - kinds : 10] + 1e-3 * rng.standard_normal(
        vectors[kinds::10].shape
    )
    return vectors.astype(np.float32)


def unit(vectors: Vectors, centered: bool = True) -> Vectors:
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = rows - rows.mean(axis=0) if centered else rows
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def rows_of(vectors: Vectors, clusters: pa.Table) -> dict[bytes, tuple[int, dict[str, Any]]]:
    place = {key: i for i, key in enumerate(ids(len(vectors)).to_pylist())}
    return {row["doc_id"]: (place[row["doc_id"]], row) for row in clusters.to_pylist()}


# -- kernels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "others", "dimensions"), [(1, 1, 1), (7, 17, 5), (100, 33, 384), (97, 16, 8)]
)
def test_products_are_those_of_numpy_and_do_not_depend_on_the_tile(
    count: int, others: int, dimensions: int
) -> None:
    rng = np.random.default_rng(count)
    one, two = (rng.standard_normal((n, dimensions)).astype(np.float32) for n in (count, others))
    centroids = Centroids.of(two)
    best, similarity = centroids.nearest(one)
    exact = one.astype(np.float64) @ two.astype(np.float64).T
    assert np.allclose(similarity, exact.max(axis=1), atol=1e-3)
    assert np.allclose(exact[np.arange(count), best], exact.max(axis=1), atol=1e-3)
    for start in range(0, count, 5):  # other places in the tile, the same bits
        again = centroids.nearest(one[start : start + 3])
        assert (again[0] == best[start : start + 3]).all() and (
            again[1] == similarity[start : start + 3]
        ).all()
    out = np.empty(count, dtype=np.float32)
    pair_products(one, two[best], out)
    assert (out == similarity).all()
    pair_products(two[best], one, out)
    assert (out == similarity).all()


def test_pairs_above_a_floor() -> None:
    rows = unit(groups(3, 40), centered=False).astype(np.float32)
    room = len(rows) ** 2
    a, b, s = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float32)
    found = pairs_above(rows, pack(rows), len(rows), True, np.float32(0.97), a, b, s)
    exact = rows.astype(np.float64) @ rows.T.astype(np.float64)
    wanted = {(i, j) for i, j in zip(*np.nonzero(np.triu(exact >= 0.97, 1)), strict=True)}
    sure = {(i, j) for i, j in wanted if abs(exact[i, j] - 0.97) > 1e-5}
    got = set(zip(a[:found].tolist(), b[:found].tolist(), strict=True))
    assert sure <= got <= {(i, j) for i, j in zip(*np.nonzero(np.triu(exact >= 0.97 - 1e-5, 1)), strict=True)}
    assert (s[:found] <= 1).all()


def test_vectors_without_a_direction() -> None:
    rows = np.array([[3, 4], [0, 0], [np.nan, 1], [np.inf, 1], [1e-20, 0]], dtype=np.float32)
    usable = np.empty(5, dtype=np.bool_)
    to_unit(rows, usable)
    assert usable.tolist() == [True, False, False, False, False]
    assert np.allclose(rows, [[0.6, 0.8], [0, 0], [0, 0], [0, 0], [0, 0]])
    center(rows, rows[0].copy())
    assert np.allclose(rows[0], [0.6, 0.8]) and np.allclose(rows[1], [-0.6, -0.8])


def test_a_forest_is_the_strongest() -> None:
    a = np.array([0, 0, 1, 2, 3], dtype=np.int32)
    b = np.array([1, 2, 2, 3, 4], dtype=np.int32)
    assert forest_edges(6, a, b).tolist() == [True, True, False, True, True]


# -- clusters -------------------------------------------------------------------------------------


def test_clusters_find_the_groups() -> None:
    vectors = groups()
    found = semantic_clusters(table(vectors), k=5)
    placed = rows_of(vectors, found)
    assert [row["doc_id"] for row in found.to_pylist()] == sorted(placed)
    kinds = {(place % 5, row["cluster_id"]) for place, row in placed.values()}
    assert len(kinds) == 5, "each group is one cluster"
    sizes = found["cluster_id"].value_counts().to_pylist()
    assert [s["counts"] for s in sorted(sizes, key=lambda s: s["values"])] == [60] * 5
    rows = unit(vectors)
    for number in range(5):
        own = [(place, row) for place, row in placed.values() if row["cluster_id"] == number]
        mean = rows[[place for place, _ in own]].sum(axis=0)
        mean /= np.linalg.norm(mean)
        for place, row in own:
            assert row["centroid_similarity"] == pytest.approx(rows[place] @ mean, abs=1e-4)
        ranked = sorted(own, key=lambda found: (-found[1]["centroid_similarity"], found[1]["doc_id"]))
        assert [row["cluster_rank"] for _, row in ranked] == list(range(1, 61))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    count=st.integers(1, 120), k=st.one_of(st.none(), st.integers(1, 20)), seed=st.integers(0, 3),
    sample=st.integers(1, 130), copies=st.integers(0, 40), holes=st.integers(0, 3), centered=st.booleans(),
    cap=st.sampled_from([1, 64]), floor=st.sampled_from([0.5, 0.9, 1.0]), chance=st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_order_of_rows_and_the_threads_change_nothing(
    count: int, k: int | None, seed: int, sample: int, copies: int, holes: int, centered: bool, cap: int,
    floor: float, chance: Any,
) -> None:  # fmt: skip
    vectors = np.random.default_rng(seed).standard_normal((count, 7)).astype(np.float32)
    vectors[: min(copies, count)] = vectors[0]
    vectors[count - min(holes, count) :] = 0
    order = list(range(count))
    chance.shuffle(order)
    asked: dict[str, Any] = {"k": k, "sample_rows": sample, "seed": seed, "centered": centered}
    first = semantic_clusters(table(vectors), threads=1, **asked)
    again = semantic_clusters(table(vectors, np.array(order)), threads=3, **asked)
    assert first.equals(again)
    assert first["cluster_id"].null_count == min(holes, count)
    if k is not None:
        assert len(first["cluster_id"].unique().drop_null()) <= k
    shuffled = again.take(pa.array(order))
    options: dict[str, Any] = {"floor": floor, "centered": centered, "pairs_per_member": cap}
    pairs = semantic_pairs(table(vectors), first, threads=1, **options).read_all()
    assert pairs.equals(
        semantic_pairs(table(vectors, np.array(order)), shuffled, threads=3, **options).read_all()
    )
    assert all(row["a"] < row["b"] for row in pairs.to_pylist())
    # Whatever is listed, the groups at any threshold are those of every pair.
    options["pairs_per_member"] = 10_000
    complete = semantic_pairs(table(vectors), first, **options).read_all()
    assert set(complete["kind"].to_pylist()) <= {"pair"}
    for threshold in (floor, 0.95, 1.0):
        assert semantic_duplicates(first, pairs, threshold=threshold).equals(
            semantic_duplicates(first, complete, threshold=threshold)
        )


def test_blocks_and_large_clusters_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.semantic import kmeans, pairs, vectors

    rows = groups(4, 150)
    clusters = semantic_clusters(table(rows), k=3)
    whole = semantic_pairs(table(rows), clusters, floor=0.6).read_all()
    for module, name, value in [(pairs, "BLOCK", 50), (pairs, "SMALL", 100), (kmeans, "CHUNK", 64),
                                (vectors, "BATCH_ROWS", 33)]:  # fmt: skip
        monkeypatch.setattr(module, name, value)
    assert semantic_clusters(table(rows), k=3).equals(clusters)
    assert semantic_pairs(table(rows), clusters, floor=0.6, threads=2).read_all().equals(whole)
    links = semantic_pairs(table(rows), clusters, floor=0.6, pairs_per_member=1).read_all()
    assert set(links["kind"].to_pylist()) == {"link"}
    for threshold in (0.6, 0.7, 0.9, 0.999):
        assert semantic_duplicates(clusters, links, threshold=threshold).equals(
            semantic_duplicates(clusters, whole, threshold=threshold)
        )


@pytest.mark.parametrize("centered", [True, False])
def test_pairs_equal_brute_force_within_clusters(centered: bool) -> None:
    vectors = groups(4, 100)
    clusters = semantic_clusters(table(vectors), k=6, centered=centered)
    floor = 0.9 if centered else 0.995
    found = semantic_pairs(table(vectors), clusters, floor=floor, centered=centered).read_all().to_pylist()
    rows = unit(vectors, centered)
    exact = rows @ rows.T
    cluster = {place: row["cluster_id"] for place, row in rows_of(vectors, clusters).values()}
    place = {key: i for i, key in enumerate(ids(len(vectors)).to_pylist())}
    got = {tuple(sorted((place[row["a"]], place[row["b"]]))): row["similarity"] for row in found}
    for i in range(len(vectors)):
        for j in range(i + 1, len(vectors)):
            if abs(exact[i, j] - floor) > 1e-5:
                assert ((i, j) in got) == (exact[i, j] > floor and cluster[i] == cluster[j])
    assert got and all(abs(s - exact[i, j]) < 2e-5 for (i, j), s in got.items())


def test_a_dense_family_is_linked_in_bounded_memory() -> None:
    """Thousands of equal and nearly equal vectors: the pairs would be millions, the links are one each."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((5000, 8)).astype(np.float32)
    vectors[:3000] = vectors[0]
    vectors[3000:4000] = vectors[0] + 1e-3 * rng.standard_normal((1000, 8))
    clusters = semantic_clusters(table(vectors), k=2)
    pairs = semantic_pairs(table(vectors), clusters, floor=0.98).read_all()
    assert pairs.num_rows < 5000 and "link" in pairs["kind"].to_pylist()
    sizes = semantic_duplicates(clusters, pairs, threshold=1.0)["cluster_size"].to_pylist()
    assert max(sizes) >= 3000


def test_among_clusters_only_those(tmp_path: Any) -> None:
    vectors = groups()
    lake = hw.Lake(tmp_path / "lake")
    lake.write("embeddings", table(vectors))
    chosen = ids(len(vectors)).take(pa.array(range(0, 300, 2)))
    stranger = pa.array([b"x" * 16], pa.binary(16))
    found = semantic_clusters(lake.table("embeddings"), k=5, among=pa.chunked_array([chosen, stranger]))
    assert found["doc_id"].to_pylist() == sorted(chosen.to_pylist())
    only = table(vectors, np.arange(0, 300, 2))
    assert found.equals(semantic_clusters(only, k=5)), "the others leave no trace"


def test_fewer_vectors_than_clusters() -> None:
    same = np.ones((9, 4), dtype=np.float32)
    found = semantic_clusters(table(same), k=4)
    assert found["cluster_id"].to_pylist() == [0] * 9 and found["centroid_similarity"].to_pylist()[0] > 0.99
    pairs = semantic_pairs(table(same), found)
    assert semantic_duplicates(found, pairs, threshold=1.0)["cluster_size"].to_pylist() == [9] * 9
    empty = semantic_clusters(table(same[:0]))
    assert empty.num_rows == 0 and semantic_pairs(table(same[:0]), empty).read_all().num_rows == 0
    zero = semantic_clusters(table(np.zeros((3, 4), dtype=np.float32)))
    assert zero["cluster_id"].null_count == 3
    assert semantic_duplicates(zero, semantic_pairs(table(same), zero), threshold=0.9).num_rows == 0
    rows = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    unit_rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert len(train(np.repeat(unit_rows[:3], 10, axis=0), 20)) == 3


def test_bad_input_is_told() -> None:
    rows = groups(2, 5)
    good = table(rows)
    with pytest.raises(UnknownName, match="unknown column 'embedding'"):
        semantic_clusters(good.drop_columns(["embedding"]))
    with pytest.raises(UsageError, match="embedding must be a FixedSizeList of floats, got list"):
        semantic_clusters(pa.table({"doc_id": good["doc_id"], "embedding": [[1.0]] * 10}))
    with pytest.raises(DataMismatch, match="has more than one embedding"):
        semantic_clusters(pa.concat_tables([good, good]))
    with pytest.raises(DataMismatch, match=re.escape("are of 2 models (other@2, toy@1)")):
        semantic_clusters(pa.concat_tables([good, table(rows, model="other@2")]))
    with pytest.raises(UsageError, match="k must be at least 1, got 0"):
        semantic_clusters(good, k=0)
    with pytest.raises(UsageError, match="floor must be above 0"):
        semantic_pairs(good, semantic_clusters(good), floor=0)
    clusters = semantic_clusters(good)
    with pytest.raises(DataMismatch, match="1 of 10 clustered documents have no vector"):
        semantic_pairs(table(rows, np.arange(9)), clusters).read_all()
    half = good.set_column(2, "embedding", good["embedding"].cast(pa.list_(pa.float64(), 24)))
    assert semantic_clusters(half).equals(clusters), "float64 is accepted"


# -- topics ---------------------------------------------------------------------------------------

HEADER = "# Licensed to the zebra foundation\n# generated by walrus\nimport giraffe\n"
SUBJECTS = {
    "render": "def drawTriangle(canvas_width): paint the canvas with a brush{i}, polygon and shader",
    "money": "class InvoiceLedger: balance of the bank account{i}; payment of the invoice and tax",
    "sound": "play_melody(violin, tempo{i}) chord of the orchestra; melody in minor",
}


def corpus() -> tuple[pa.Table, pa.Table]:
    texts, paths, cluster = [], [], []
    for number, (folder, text) in enumerate(SUBJECTS.items()):
        for i in range(12):
            texts.append(HEADER + text.format(i=i) + f"\nvalue = {i}")
            paths.append(f"{folder}/part{i}.py")
            cluster.append(number)
    keys = ids(len(texts))
    documents = pa.table({"doc_id": keys, "path": paths, "text": pa.array(texts, pa.large_string())})
    clusters = pa.table({
        "doc_id": keys,
        "cluster_id": pa.array(cluster, pa.int32()),
        "centroid_similarity": pa.array([1 - 0.01 * (i % 12) for i in range(len(texts))], pa.float32()),
        "cluster_rank": pa.array([1 + i % 12 for i in range(len(texts))], pa.int64()),
    })  # fmt: skip
    return documents, clusters


def test_topics_have_names_that_say_something(tmp_path: Any) -> None:
    documents, clusters = corpus()
    found = topics(documents, clusters).read_all().to_pylist()
    assert [row["name"].split(": ")[0] for row in found] == ["render", "money", "sound"]
    assert "canvas" in " ".join(found[0]["terms"]) and "triangle" in " ".join(found[0]["terms"])
    assert "invoice" in " ".join(found[1]["terms"]) and "orchestra" in " ".join(found[2]["terms"])
    words = " ".join(" ".join(row["terms"]) for row in found)
    assert not {"zebra", "walrus", "giraffe", "class", "def", "the"} & set(words.split()), (
        "what all say names none"
    )
    assert [row["size"] for row in found] == [12] * 3
    assert found[0]["example_paths"] == [f"render/part{i}.py" for i in range(5)]
    keys = documents["doc_id"].to_pylist()
    assert found[1]["example_doc_ids"] == keys[12:17]
    assert found[2]["mean_similarity"] == pytest.approx(1 - 0.01 * 5.5, abs=1e-6)
    order = pa.array(np.random.default_rng(0).permutation(36))
    assert topics(documents.take(order), clusters.take(order)).read_all().to_pylist() == found
    lake = hw.Lake(tmp_path / "lake")
    lake.write("raw.documents", documents)
    assert topics(lake.table("raw.documents"), clusters).read_all().to_pylist() == found


def test_names_are_unique_and_never_empty() -> None:
    documents, clusters = corpus()
    same = pa.array([HEADER + "melody"] * 36, pa.large_string())
    documents = documents.drop_columns(["path"]).set_column(1, "text", same)
    names = topics(documents, clusters).read_all()["name"].to_pylist()
    assert len(set(names)) == 3 and all("melody" in name for name in names)
    none = documents.set_column(1, "text", pa.array([None] * 36, pa.large_string()))
    names = topics(none, clusters).read_all()["name"].to_pylist()
    assert names == ["mixed", "mixed (2)", "mixed (3)"]
    dropped = topics(documents, clusters, stop_words=["Melody"]).read_all()["name"].to_pylist()
    assert not any("melody" in name for name in dropped)
    with pytest.raises(DataMismatch, match="has a cluster, but no text"):
        topics(documents.slice(1), clusters)
    with pytest.raises(UnknownName, match="unknown column 'cluster_rank'"):
        topics(documents, clusters.drop_columns(["cluster_rank"]))
    assert topics(documents, clusters.slice(0, 0)).read_all().num_rows == 0
