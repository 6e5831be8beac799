"""datatrove's signatures and removals: values that datatrove 0.10.1 gave, and its clustering rule in Python."""

import hashlib
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from dedup_documents import HOSTILE, corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.dedup.datatrove import datatrove_clusters
from headwater.errors import UsageError
from headwater.kernels.xxh64 import xxh64
from headwater.operators import operator

TEXTS = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "I can't, won't and don't know: it's 1,234.56 or 7.8.9 (50%) on 2024-01-02 at 10am/5pm.",
    "Ünïcödé naïve café ﬁne ŒUVRE İstanbul ΣΊΣΥΦΟΣ Straße 漢字かな交じり文 ไทย ١٢٣٫٤٥ e\u0301te\u0301",
    "def f(x, y=None):\n    return x_y + y['key'] ** 2  # C++ 10km http://example.org/a?b=c me@example.org\n",
    "one two three four",
    "dr mr im ive dont cant gonna wanna lets oclock 5ft 10kg 3gb $100 £20 € 30 ¥ a+b a=b a<b ©2020 ®™ § ° ½",
    "\u202eright\u202c\u200fto left\u0000nul \ufeff bom 😀👩‍👩‍👧‍👦 emoji … — – “quoted” ‘single’ «guillemets»",
    "",
]
GOLDEN = [
    (13, "e0c50ec289134a6c"),
    (20, "f2838fdc8cd9f1bb"),
    (8, "ffb30c5989537a8d"),
    (19, "db75206f35756a47"),
    (0, ""),
    (36, "a73b774c3f3d3bf9"),
    (14, "f191b6d41b95380f"),
    (0, ""),
]
"""Shingles, and the first 16 digits of the SHA-256 of the 112 minima as little-endian uint64."""


def signatures(texts: list[str], **options: Any) -> list[list[int]]:
    made: list[list[int]] = operator("datatrove_minhash")(
        pa.array(texts, pa.large_string()), **options
    ).to_pylist()
    return made


def test_signatures_are_those_of_datatrove() -> None:
    for text, minima, (shingles, digest) in zip(TEXTS, signatures(TEXTS), GOLDEN, strict=True):
        if shingles == 0:
            assert minima == [], text
        else:
            assert len(minima) == 112
            assert hashlib.sha256(np.array(minima, dtype="<u8").tobytes()).hexdigest()[:16] == digest, text


def test_xxh64_is_that_of_the_package() -> None:
    texts = ["x" * n for n in range(100)] + HOSTILE
    expected = [xxhash.xxh64_intdigest(text.encode()) for text in texts]
    assert xxh64(pa.array(texts, pa.large_string())).tolist() == expected


def test_settings() -> None:
    texts = TEXTS[:1]
    assert len(signatures(texts, num_hashes=20)[0]) == 20
    assert signatures(texts, seed=2) != signatures(texts)
    assert signatures(["a b c."], ngram=3) == signatures(["A  b, c!"], ngram=3, tokenizer="whitespace")
    for options in ({"tokenizer": "nltk"}, {"num_hashes": 0}, {"ngram": 0}, {"seed": -1}):
        with pytest.raises(UsageError):
            signatures(texts, **options)


def removed_by_datatrove(minima: list[list[int]], depth: int) -> list[int]:
    """``MinhashDedupBuckets`` and ``MinhashDedupCluster`` of datatrove 0.10.1, for one file."""
    union: dict[int, int] = {}
    size: dict[int, int] = {}

    def parent(x: int) -> int:
        while union.setdefault(x, x) != x:
            x = union[x]
        return x

    for start in range(0, len(minima[0]) if minima else 0, depth):
        ordered = sorted((tuple(m[start : start + depth]), doc) for doc, m in enumerate(minima))
        for (one, a), (two, b) in pairwise(ordered):
            if one == two:
                root_a, root_b = parent(a), parent(b)
                if root_a != root_b:
                    size_a, size_b = size.get(root_a, 1), size.get(root_b, 1)
                    if size_a < size_b:
                        root_a, root_b = root_b, root_a
                    union[root_b] = root_a
                    size[root_a] = size_a + size_b
    return sorted(doc for doc in union if parent(doc) != doc)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(2**63 - 2, 2**63 + 1), min_size=6, max_size=6), max_size=14),
    st.integers(1, 20),
)
def test_removals_are_those_of_datatrove(minima: list[list[int]], rows: int) -> None:
    ids = pa.array([xxhash.xxh3_128_digest(f"{i}".encode()) for i in range(len(minima))], pa.binary(16))
    table = pa.table({"doc_id": ids, "datatrove_minhash": pa.array(minima, pa.list_(pa.uint64()))})
    batches = iter(table.to_batches(max_chunksize=rows))
    found = datatrove_clusters(batches, num_buckets=3, hashes_per_bucket=2, threads=1).to_pylist()
    place = {doc: i for i, doc in enumerate(ids.to_pylist())}
    removed = [place[row["doc_id"]] for row in found if row["doc_id"] != row["cluster_id"]]
    assert removed == removed_by_datatrove(minima, 2)


def test_short_texts_and_wrong_widths() -> None:
    docs = corpus(["too short", "too short", TEXTS[0], TEXTS[0].upper(), ""])
    signed = operator("datatrove_minhash").apply(docs.combine_chunks().to_batches()[0])
    found = datatrove_clusters(pa.Table.from_batches([signed]))
    ids = docs["doc_id"].to_pylist()
    assert found.to_pylist() == [
        {"doc_id": ids[2], "cluster_id": ids[2]},
        {"doc_id": ids[3], "cluster_id": ids[2]},
    ]
    assert datatrove_clusters(iter([])).num_rows == 0
    with pytest.raises(UsageError, match="14 x|112|num_buckets"):
        datatrove_clusters(pa.Table.from_batches([signed]), num_buckets=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=60), st.sampled_from(HOSTILE)), max_size=5))
def test_hostile_texts(texts: list[str]) -> None:
    assert all(len(minima) in (0, 112) for minima in signatures(texts))
