"""Near-duplicates: bands, pairs, clusters, bad input, large families, memory of one run's pieces."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from headwater.dedup import (
    bands_for,
    duplicate_clusters,
    near_duplicate_pairs,
    pairs_from_signatures,
    total_clusters,
)
from headwater.dedup.bands import MISS_AT_THRESHOLD, MISS_BY_ESTIMATE, Bands, least_agreement
from headwater.dedup.caps import BUCKET_CAP, CROSS_CAP, GROUP_CAP
from headwater.errors import DataMismatch, UnknownName, UsageError
from headwater.operators import operator


def doc_id(name: object) -> bytes:
    return xxhash.xxh3_128_digest(str(name).encode())


def documents(texts: dict[object, str | None]) -> pa.Table:
    return pa.table(
        {
            "doc_id": pa.array([doc_id(name) for name in texts], pa.binary(16)),
            "text": pa.array(list(texts.values()), pa.large_string()),
        }
    )


def signatures_of(docs: pa.Table, **settings: int) -> pa.Table:
    signed = operator("minhash_signature")(docs["text"], **settings).filter(
        docs["text"].is_valid().combine_chunks()
    )
    kept = docs.filter(docs["text"].is_valid())
    return pa.table(
        [kept["doc_id"], *signed.flatten()],
        names=["doc_id", "num_shingles", "shingle_set_hash", "minhash"],
    )


def as_set(pairs: pa.Table) -> dict[tuple[bytes, bytes], float]:
    rows = pairs.to_pylist()
    assert all(row["a"] < row["b"] for row in rows)
    keys = [(row["a"], row["b"]) for row in rows]
    assert keys == sorted(set(keys))
    return dict(zip(keys, (row["similarity"] for row in rows), strict=True))


def words(start: int, stop: int) -> str:
    return " ".join(f"w{i}" for i in range(start, stop))


# ---------------------------------------------------------------- bands


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("num_perm", [112, 128, 256])
def test_bands_follow_from_the_threshold(threshold: float, num_perm: int) -> None:
    bands, rows = bands_for(threshold, num_perm)
    assert bands * rows <= num_perm
    assert (1 - threshold**rows) ** bands <= MISS_AT_THRESHOLD
    # fewest bands for these rows, and no more rows would do
    assert bands == 1 or (1 - threshold**rows) ** (bands - 1) > MISS_AT_THRESHOLD
    for more in range(rows + 1, num_perm + 1):
        assert (1 - threshold**more) ** (num_perm // more) > MISS_AT_THRESHOLD


def test_documented_bands() -> None:
    got = {t: tuple(bands_for(t)) for t in (0.9, 0.8, 0.7, 0.6, 0.5)}
    assert got == {0.9: (14, 8), 0.8: (20, 5), 0.7: (28, 4), 0.6: (32, 3), 0.5: (27, 2)}
    assert Bands(14, 8).miss(0.8) == pytest.approx(0.08, abs=0.005)
    assert Bands(14, 8).miss(0.7) == pytest.approx(0.44, abs=0.005)
    with pytest.raises(UsageError, match="num_perm"):
        bands_for(0.2, 16)
    with pytest.raises(UsageError, match="above 0"):
        bands_for(1.2)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_least_agreement_is_a_binomial_tail(threshold: float) -> None:
    from fractions import Fraction
    from math import comb

    p = Fraction(threshold)
    least = least_agreement(threshold, 112)
    tail = sum(comb(112, k) * p**k * (1 - p) ** (112 - k) for k in range(least))
    assert tail <= MISS_BY_ESTIMATE
    assert tail + comb(112, least) * p**least * (1 - p) ** (112 - least) > MISS_BY_ESTIMATE
    assert least_agreement(1.0, 112) == 112


# ---------------------------------------------------------------- pairs


def test_pairs_of_a_small_corpus() -> None:
    docs = documents(
        {
            "a": words(0, 1004),  # 1,000 shingles
            "b": words(0, 904),  # 900 of them: 0.9
            "c": words(0, 764),  # 0.76, and 760 / 900 = 0.844 with b
            "copy of a": words(0, 1004).upper(),
            "short": "one two",
            "short again": "One, two!",
            "short other": "two one",
            "empty": "",
            "no words": "?! --",
            "null": None,
        }
    )
    found = as_set(near_duplicate_pairs(docs))

    def pair(x: str, y: str) -> tuple[bytes, bytes]:
        return min(doc_id(x), doc_id(y)), max(doc_id(x), doc_id(y))

    assert found == {
        pair("a", "b"): np.float32(0.9),
        pair("copy of a", "b"): np.float32(0.9),
        pair("b", "c"): np.float32(760 / 900),
        pair("a", "copy of a"): 1.0,
        pair("short", "short again"): 1.0,
    }
    lower = as_set(near_duplicate_pairs(docs, threshold=0.7))
    assert lower == found | {pair("a", "c"): np.float32(0.76), pair("copy of a", "c"): np.float32(0.76)}


def test_exactly_at_the_threshold_counts() -> None:
    docs = documents({"a": words(0, 1004), "b": words(0, 804)})
    assert near_duplicate_pairs(docs, threshold=0.8).num_rows == 1
    assert near_duplicate_pairs(docs, threshold=0.8001).num_rows == 0


def test_every_kind_of_input_gives_the_same_pairs() -> None:
    texts = {i: words(i, i + 300) for i in range(40)} | {f"t{i}": words(5 * i, 5 * i + 90) for i in range(60)}
    docs = documents(texts)
    expected = near_duplicate_pairs(docs, threshold=0.7)
    assert expected.num_rows > 300
    rng = np.random.default_rng(1)
    shuffled = docs.take(pa.array(rng.permutation(docs.num_rows)))
    assert near_duplicate_pairs(shuffled, threshold=0.7, threads=1).equals(expected)
    batches = shuffled.to_batches(max_chunksize=7)
    assert near_duplicate_pairs(iter(batches), threshold=0.7, threads=2).equals(expected)
    reader = pa.RecordBatchReader.from_batches(docs.schema, iter(batches))
    assert near_duplicate_pairs(reader, threshold=0.7, memory_bytes=1 << 20).equals(expected)
    small = docs.cast(pa.schema([("doc_id", pa.binary()), ("text", pa.string())]))
    assert near_duplicate_pairs(small, threshold=0.7).equals(expected)
    # stored signatures
    signed = signatures_of(shuffled)
    assert pairs_from_signatures(signed, docs, threshold=0.7).read_all().equals(expected)
    assert (
        pairs_from_signatures(iter(signed.to_batches(max_chunksize=9)), shuffled, threshold=0.7)
        .read_all()
        .equals(expected)
    )
    # a pair above two thresholds is above both: the stored pairs answer the higher one
    high = near_duplicate_pairs(docs, threshold=0.8)
    similar = expected.filter(pa.array(expected["similarity"].to_numpy() >= np.float32(0.8)))
    assert high.equals(similar)


def test_lake_table(tmp_path: Path) -> None:
    from headwater.lake import Lake

    docs = documents(
        {i: words(i, i + 200) for i in range(30)}
        | {f"x{i}": words(1000 * i, 1000 * i + 99) for i in range(90)}
    )
    lake = Lake(str(tmp_path / "lake"), schema="dev")
    lake.write("raw.documents", docs)
    lake.index("raw.documents", "doc_id")
    lake.write("signatures", signatures_of(docs))
    table = lake.table("raw.documents")
    expected = near_duplicate_pairs(docs)
    assert expected.num_rows > 30
    assert near_duplicate_pairs(table).equals(expected)
    assert pairs_from_signatures(lake.table("signatures"), table).read_all().equals(expected)
    clusters = total_clusters(table.scan(["doc_id"]), expected.to_reader(), threshold=0.8)
    assert clusters.num_rows == 120


def test_empty_inputs() -> None:
    docs = documents({})
    assert near_duplicate_pairs(docs).num_rows == 0
    assert near_duplicate_pairs(iter([])).num_rows == 0
    assert near_duplicate_pairs(documents({"a": "", "b": "!"})).num_rows == 0
    empty = near_duplicate_pairs(docs)
    assert empty.schema.names == ["a", "b", "similarity", "kind"]
    assert duplicate_clusters(empty).num_rows == 0
    assert total_clusters(docs["doc_id"], empty).num_rows == 0
    assert pairs_from_signatures(signatures_of(documents({"a": ""})), docs).read_all().num_rows == 0


def test_bad_input_is_named() -> None:
    docs = documents({"a": words(0, 50), "b": words(0, 50)})
    with pytest.raises(UnknownName, match="column 'text'"):
        near_duplicate_pairs(docs.drop_columns("text"))
    with pytest.raises(UsageError, match="threshold"):
        near_duplicate_pairs(docs, threshold=0)
    with pytest.raises(UsageError, match="more than once"):
        near_duplicate_pairs(pa.concat_tables([docs, docs]))
    with pytest.raises(UsageError, match="16 bytes"):
        near_duplicate_pairs(
            documents({}).from_pydict({"doc_id": [b"x", b"y"], "text": [words(0, 9), words(0, 9)]})
        )
    near = documents({"a": words(0, 500), "b": words(3, 500)})
    signed = signatures_of(near)
    with pytest.raises(DataMismatch, match="no text"):
        pairs_from_signatures(signed, near.slice(0, 1)).read_all()
    with pytest.raises(DataMismatch, match="number of shingles"):
        pairs_from_signatures(signed, documents({"a": words(0, 400), "b": words(3, 500)})).read_all()
    with pytest.raises(DataMismatch, match="number of shingles"):
        pairs_from_signatures(signed, near, ngram=3).read_all()
    mixed = pa.concat_tables([signed, signatures_of(documents({"c": words(0, 20)}), num_perm=64)])
    with pytest.raises(UsageError, match="num_perm"):
        pairs_from_signatures(mixed, near).read_all()


# ---------------------------------------------------------------- large families


def test_many_identical_documents_stay_linear() -> None:
    copies = 5_000
    texts: dict[object, str] = {i: words(0, 60) for i in range(copies)}
    texts |= {f"near{i}": words(0, 60 - 1) for i in range(GROUP_CAP)}
    pairs = near_duplicate_pairs(documents(texts))
    # one star, one small group in full, and one link between them
    assert pairs.num_rows == (copies - 1) + GROUP_CAP * (GROUP_CAP - 1) // 2 + 1
    clusters = duplicate_clusters(pairs)
    assert clusters.num_rows == len(texts) and len(clusters["cluster_id"].unique()) == 1
    assert clusters["cluster_id"][0].as_py() == min(doc_id(name) for name in texts)


def test_groups_that_are_multiplied_out() -> None:
    side = int(CROSS_CAP**0.5)
    texts: dict[object, str] = {f"a{i}": words(0, 60) for i in range(side)}
    texts |= {f"b{i}": words(0, 59) for i in range(side)}
    pairs = near_duplicate_pairs(documents(texts))
    assert pairs.num_rows == side * side + side * (side - 1)


def test_a_family_above_the_bucket_cap_is_one_cluster() -> None:
    """Each member differs from each by one word in its own place: every pair is near 0.95."""
    rng = np.random.default_rng(5)
    members = 4 * BUCKET_CAP
    base = [f"w{i}" for i in range(400)]
    texts: dict[object, str] = {}
    for i in range(members):
        own = list(base)
        own[int(rng.integers(400))] = f"own{i}"
        texts[i] = " ".join(own)
    docs = documents(texts)
    pairs = near_duplicate_pairs(docs)
    clusters = duplicate_clusters(pairs)
    assert clusters.num_rows == members and len(clusters["cluster_id"].unique()) == 1
    assert pairs.num_rows < 130 * members  # and not members / 2 for each
    shuffled = docs.take(pa.array(rng.permutation(members)))
    assert near_duplicate_pairs(shuffled.to_reader(max_chunksize=100), threads=2).equals(pairs)


def test_twins_inside_a_bucket_whose_leader_fails_them() -> None:
    """A crowd around the threshold shares bands; pairs of true twins hide in it and must be found."""
    rng = np.random.default_rng(11)
    base = [f"w{i}" for i in range(300)]
    texts: dict[object, str] = {}
    twins = []
    for i in range(2 * BUCKET_CAP):
        own = list(base)
        for at in rng.choice(300, size=9, replace=False):  # about 0.75 to everyone else
            own[at] = f"own{i}-{at}"
        texts[f"x{i}"] = " ".join(own)
        own[int(rng.integers(300))] = f"twin{i}"
        texts[f"y{i}"] = " ".join(own)
        twins.append((doc_id(f"x{i}"), doc_id(f"y{i}")))
    found = as_set(near_duplicate_pairs(documents(texts)))
    missed = [pair for pair in twins if (min(pair), max(pair)) not in found]
    assert len(missed) <= len(twins) // 500


# ---------------------------------------------------------------- clusters


def test_clusters_of_a_chain() -> None:
    names = sorted(doc_id(i) for i in range(6))
    edges = [(names[1], names[4]), (names[2], names[4]), (names[3], names[5])]
    pairs = pa.table(
        {
            "a": pa.array([a for a, _ in edges], pa.binary(16)),
            "b": pa.array([b for _, b in edges], pa.binary(16)),
            "similarity": pa.array([0.9, 0.8, 0.7], pa.float32()),
        }
    )
    assert duplicate_clusters(pairs).to_pylist() == [
        {"doc_id": names[i], "cluster_id": names[c]} for i, c in ((1, 1), (2, 1), (3, 3), (4, 1), (5, 3))
    ]
    total = total_clusters(pa.array(reversed(names), pa.binary(16)), pairs, threshold=0.8).to_pylist()
    assert [(names.index(r["cluster_id"]), r["cluster_size"]) for r in total] == [
        (0, 1), (1, 3), (1, 3), (3, 1), (1, 3), (5, 1)
    ]  # fmt: skip
    assert [row["doc_id"] for row in total] == names
    everything = total_clusters(pa.table({"doc_id": pa.array(names, pa.binary(16))}), pairs)
    assert everything["cluster_size"].to_pylist() == [1, 3, 3, 2, 3, 2]
    with pytest.raises(DataMismatch, match="names document"):
        total_clusters(pa.array(names[:3], pa.binary(16)), pairs)
    with pytest.raises(UnknownName, match="similarity"):
        total_clusters(pa.array(names, pa.binary(16)), pairs.drop_columns("similarity"), threshold=0.8)


def test_public_names_and_clean_stderr() -> None:
    code = (
        "import pyarrow as pa, headwater as hw\n"
        "ids = pa.array([b'0' * 16, b'1' * 16], pa.binary(16))\n"
        "docs = pa.table({'doc_id': ids, 'text': ['a b c', 'A b c']})\n"
        "pairs = hw.near_duplicate_pairs(docs)\n"
        "assert hw.duplicate_clusters(pairs).num_rows == 2\n"
        "hw.dedup.pairs_from_signatures(pairs, docs)  # never read: leaves nothing open"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
