"""How much the documents of a part differ from each other, at the same sample size for every part.

Every measure here depends on how much is looked at: a vocabulary grows with the text, near-copies with the
pairs. So each part is sampled to the size of the smallest one (within bounds), and real and synthetic parts
can be compared line by line.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup import near_duplicate_pairs
from headwater.errors import MissingExtra, UnknownName, UsageError
from headwater.kernels.word_sequence import WordSequence, first_ngrams, ngrams, word_sequence
from headwater.kernels.xxh3 import xxh3_64

if TYPE_CHECKING:
    from headwater.lake import Table

Floats = npt.NDArray[np.float32]

DIVERSITY = pa.schema(
    {
        "part": pa.string(),
        "num_documents": pa.int64(),
        "sampled_documents": pa.int64(),
        "sampled_words": pa.int64(),
        "first_3_words_share": pa.float64(),
        "first_5_words_share": pa.float64(),
        "distinct_1": pa.float64(),
        "distinct_2": pa.float64(),
        "distinct_3": pa.float64(),
        "vocabulary": pa.int64(),
        "heaps_curve": pa.list_(pa.struct({"words": pa.int64(), "vocabulary": pa.int64()})),
        "heaps_exponent": pa.float64(),
        "near_duplicate_share": pa.float64(),
        "embedded_documents": pa.int64(),
        "mean_cosine": pa.float64(),
        "effective_documents": pa.float64(),
        "embedding_model": pa.string(),
        "note": pa.string(),
    }
)
"""One row per part.

``first_n_words_share``: documents that begin with the most common first n words of the sample.
``distinct_n``: different n-grams of words as a share of all, ``vocabulary``: different words, both over
exactly ``sampled_words``; ``heaps_curve``: the vocabulary on the way there, ``heaps_exponent``: its slope in
logarithms. ``near_duplicate_share``: sampled documents with a near-copy among the sampled (Jaccard of word
5-grams).
``mean_cosine``: of all pairs of embedded documents; ``effective_documents``: the exponential of the entropy
of the eigenvalues of their similarity matrix (Vendi score, arXiv 2210.02410), at most ``embedded_documents``.
``note`` says what could not be measured, and why.
"""

SAMPLE_DOCUMENTS = 2_000
SAMPLE_WORDS = 100_000
EMBED_DOCUMENTS = 256
EMBED_CHARS = 2_000
"""Of a text that is embedded: what a small model reads at most."""
MIN_DOCUMENTS, MIN_WORDS = 20, 1_000
"""A part with less is measured at its own size and does not lower that of the others; its note says so."""
THRESHOLD = 0.8
LOOKUP_ROWS = 256
FIRST_WORDS = 5

_HEAPS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)


@dataclass
class _Part:
    """The sample of one part: ids in seeded order, and what was read of their texts."""

    name: str
    num_documents: int
    ids: pa.Array
    beginnings: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    """Hashes of the first words of each document that has words."""
    words: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    """Hashes of all words of the first documents, until there are enough."""


def diversity(
    documents: Table | pa.Table | Sequence[Table | pa.Table],
    parts: pa.Table | pa.RecordBatchReader,
    *,
    sample_documents: int = SAMPLE_DOCUMENTS,
    sample_words: int = SAMPLE_WORDS,
    embed_documents: int = EMBED_DOCUMENTS,
    embedding_model: str = "static",
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> pa.Table:
    """Measure each part of a corpus (columns: :data:`DIVERSITY`), in the order of the parts' names.

    In memory: 24 bytes a document for the ids, 8 bytes for each sampled word, and a few hundred texts.

    Parameters
    ----------
    documents:
        Tables that hold the texts, of the lake or of Arrow.
    parts:
        ``doc_id`` (16 bytes) and ``part`` (text): documents without a part are not measured.
    sample_documents, sample_words, embed_documents:
        At most so many of each part. All parts are measured at the size of the smallest that has at least
        20 documents and 1,000 words.
    embedding_model:
        What ``headwater.embedding.load_model`` takes; ``""`` leaves embeddings out. Without the extra
        ``embeddings`` they are left out as well, and ``note`` says so.
    """
    for name, value in (("sample_documents", sample_documents), ("sample_words", sample_words)):
        if value < 1:
            raise UsageError(f"got {name}={value}", hint="at least 1")
    drawn = _drawn(parts, sample_documents, seed)
    texts = _Texts(
        list(documents) if isinstance(documents, (list, tuple)) else [documents],
        pa.concat_arrays([part.ids for part in drawn] or [pa.array([], pa.binary(16))]),
    )
    model, missing = _model(embedding_model if embed_documents > 0 else "")
    for part in drawn:
        _read_words(part, texts, sample_words)
    num_documents = _common([len(part.beginnings) for part in drawn], MIN_DOCUMENTS, sample_documents)
    num_words = _common([sum(map(len, part.words)) for part in drawn], MIN_WORDS, sample_words)
    rows = []
    for part in drawn:
        row = _measured(part, num_documents, num_words)
        chosen = part.ids.slice(0, num_documents)
        row["near_duplicate_share"] = _near_duplicates(chosen, texts, threshold)
        if model is not None:
            row |= _spread(chosen.slice(0, embed_documents), texts, model)
        row["note"] = "; ".join([*row["note"], *([missing] if missing else [])]) or None
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=DIVERSITY)


class _Texts:
    """The texts of ``ids``, wherever they are held; a document that no table holds has none."""

    def __init__(self, tables: Sequence[Any], ids: pa.Array) -> None:
        self._held: list[tuple[Any, pa.Array]] = []
        for table in tables:
            batches = (
                table.select(["doc_id"]).to_batches()
                if isinstance(table, pa.Table)
                else table.scan(["doc_id"])
            )
            found = [
                batch["doc_id"].filter(pc.is_in(batch["doc_id"], value_set=ids)).cast(pa.binary(16))
                for batch in batches
            ]
            mine = pa.concat_arrays(found) if found else ids.slice(0, 0)
            self._held.append((table, mine))
            ids = ids.filter(pc.invert(pc.is_in(ids, value_set=mine)))

    def of(self, ids: pa.Array) -> Iterator[tuple[pa.Array, pa.Array]]:
        """Ids and texts, in the order of ``ids``, a few hundred at a time."""
        for start in range(0, len(ids), LOOKUP_ROWS):
            some = ids.slice(start, LOOKUP_ROWS)
            found = [part for table, held in self._held for part in _held_texts(table, held, some)]
            if found:
                known = pa.concat_arrays([known for known, _ in found])
                texts = pa.concat_arrays([text for _, text in found])
                some = some.filter(pc.is_in(some, value_set=known))
                yield some, texts.take(pc.index_in(some, value_set=known))


def _held_texts(table: Any, held: pa.Array, ids: pa.Array) -> Iterator[tuple[pa.Array, pa.Array]]:
    mine = ids.filter(pc.is_in(ids, value_set=held))
    if not len(mine):
        return
    if isinstance(table, pa.Table):
        rows = pc.index_in(mine, value_set=table["doc_id"].combine_chunks().cast(pa.binary(16)))
        yield mine, table["text"].combine_chunks().take(rows).cast(pa.large_string()).fill_null("")
        return
    for batch in table.with_text(mine):
        yield batch["doc_id"].cast(pa.binary(16)), batch["text"].cast(pa.large_string()).fill_null("")


def _drawn(parts: pa.Table | pa.RecordBatchReader, most: int, seed: int) -> list[_Part]:
    """The ids of each part with the lowest seeded hashes, in the order of these."""
    table = parts.read_all() if isinstance(parts, pa.RecordBatchReader) else parts
    for name in ("doc_id", "part"):
        if name not in table.column_names:
            raise UnknownName.of("column", name, table.column_names, where="the parts")
    table = table.filter(pc.is_valid(table["part"]))
    ids = table["doc_id"].combine_chunks().cast(pa.binary(16))
    hashes = np.asarray(xxh3_64(ids, seed))
    encoded = pc.dictionary_encode(table["part"].cast(pa.string())).combine_chunks()
    codes = np.asarray(encoded.indices)
    found = []
    for code, name in enumerate(encoded.dictionary.to_pylist()):
        rows = np.flatnonzero(codes == code)
        order = rows[np.argsort(hashes[rows], kind="stable")][:most]
        found.append(_Part(name=name, num_documents=len(rows), ids=ids.take(pa.array(order))))
    return sorted(found, key=lambda part: part.name)


def _read_words(part: _Part, texts: _Texts, enough: int) -> None:
    count = 0
    for _, found in texts.of(part.ids):
        sequence = word_sequence(found)
        for start, end in itertools.pairwise(sequence.offsets.tolist()):
            if end > start:
                part.beginnings.append(sequence.hashes[start : min(end, start + FIRST_WORDS)].copy())
            if end > start and count < enough:
                part.words.append(sequence.hashes[start : min(end, start + enough - count)].copy())
                count += len(part.words[-1])


def _common(sizes: Sequence[int], least: int, most: int) -> int:
    """The size at which every part that has at least ``least`` can be measured."""
    enough = [size for size in sizes if size >= least]
    return min([most, *enough])


def _measured(part: _Part, num_documents: int, num_words: int) -> dict[str, Any]:
    """What words tell; ``note`` is a list."""
    beginnings = _sequence(part.beginnings[:num_documents])
    sample = _cut(_sequence(part.words), num_words)
    size, notes = len(part.beginnings[:num_documents]), []
    if size < num_documents:
        notes.append(f"only {size:,} documents with words, where others have {num_documents:,}")
    if len(sample.hashes) < num_words:
        notes.append(f"only {len(sample.hashes):,} words, where others have {num_words:,}")
    curve = _heaps(sample.hashes)
    return {
        "part": part.name,
        "num_documents": part.num_documents,
        "sampled_documents": size,
        "sampled_words": len(sample.hashes),
        **{
            f"first_{n}_words_share": _most_common_share(first_ngrams(beginnings, n)[0], size) for n in (3, 5)
        },
        **{f"distinct_{n}": _distinct(ngrams(sample, n)[0]) for n in (1, 2, 3)},
        "vocabulary": len(np.unique(sample.hashes)),
        "heaps_curve": curve,
        "heaps_exponent": _slope(curve),
        "embedded_documents": 0,
        "note": notes,
    }


def _sequence(rows: Sequence[npt.NDArray[np.uint64]]) -> WordSequence:
    ends = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
    hashes = np.concatenate(rows) if rows else np.zeros(0, np.uint64)
    return WordSequence(hashes, ends)


def _cut(words: WordSequence, most: int) -> WordSequence:
    """The first ``most`` words, the last document cut short."""
    return WordSequence(words.hashes[:most], np.minimum(words.offsets, most))


def _most_common_share(hashes: npt.NDArray[np.uint64], of: int) -> float | None:
    if not of or not len(hashes):
        return None
    return float(np.unique(hashes, return_counts=True)[1].max() / of)


def _distinct(hashes: npt.NDArray[np.uint64]) -> float | None:
    return len(np.unique(hashes)) / len(hashes) if len(hashes) else None


def _heaps(hashes: npt.NDArray[np.uint64]) -> list[dict[str, int]]:
    _, first = np.unique(hashes, return_index=True)
    first.sort()
    sizes = [size for size in _HEAPS if size < len(hashes)] + ([len(hashes)] if len(hashes) else [])
    return [{"words": size, "vocabulary": int(np.searchsorted(first, size))} for size in sizes]


def _slope(curve: Sequence[dict[str, int]]) -> float | None:
    """Of the least-squares line through the curve in logarithms; none through fewer than three points."""
    if len(curve) < 3:
        return None
    x = np.log([point["words"] for point in curve])
    y = np.log([point["vocabulary"] for point in curve])
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def _near_duplicates(ids: pa.Array, texts: _Texts, threshold: float) -> float | None:
    if len(ids) < 2:
        return None
    batches = (pa.record_batch([found, text], names=["doc_id", "text"]) for found, text in texts.of(ids))
    pairs = near_duplicate_pairs(batches, threshold=threshold, threads=1)
    twins = pc.unique(pa.chunked_array([*pairs["a"].chunks, *pairs["b"].chunks], pa.binary(16)))
    return len(twins) / len(ids)


def _model(name: str) -> tuple[Any, str]:
    if not name:
        return None, ""
    try:
        from headwater.embedding import load_model

        return load_model(name), ""
    except (ImportError, MissingExtra) as error:
        return None, f"not embedded: {str(error).splitlines()[0]}"


def _spread(ids: pa.Array, texts: _Texts, model: Any) -> dict[str, Any]:
    cut = [pc.utf8_slice_codeunits(found, 0, EMBED_CHARS) for _, found in texts.of(ids)]
    vectors = np.zeros((0, 1), np.float32)
    if cut:
        vectors = np.asarray(model.encode(pa.concat_arrays(cut)), np.float32)
    vectors = vectors[np.linalg.norm(vectors, axis=1) > 0.5]  # no token known: no direction
    return {
        "embedded_documents": len(vectors),
        "embedding_model": model.id,
        "mean_cosine": mean_cosine(vectors),
        "effective_documents": effective_documents(vectors),
    }


def mean_cosine(vectors: Floats) -> float | None:
    """Of all pairs of different rows, which have length 1."""
    n = len(vectors)
    if n < 2:
        return None
    total = vectors.sum(axis=0, dtype=np.float64)
    return float((total @ total - n) / (n * (n - 1)))


def effective_documents(vectors: Floats) -> float | None:
    """The Vendi score under cosine similarity: 1 when all rows are equal, n when all are orthogonal."""
    if not len(vectors):
        return None
    singular = np.linalg.svd(vectors.astype(np.float64), compute_uv=False)
    shares = singular**2 / (singular**2).sum()
    shares = shares[shares > 0]
    return math.exp(float(-(shares * np.log(shares)).sum()))
