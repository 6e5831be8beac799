"""From documents, or their stored signatures, to verified pairs.

    signatures → documents with equal shingle sets collapsed to their smallest id
      → bands, sorted in DuckDB (spills) → candidates: what shares a band, unless signatures rule it out
      → texts of candidates only → their shingle sets, on disk → exact Jaccard → pairs

Nothing holds one Python object per document. In memory: 40 bytes for each distinct shingle set, and blocks
bounded by ``memory_bytes``; the rest lies in a temporary folder (``TMPDIR``): DuckDB's tables, the minhashes,
and the shingle sets of the candidates (8 bytes a shingle, about the size of their text).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from headwater.dedup.bands import THRESHOLD
from headwater.dedup.candidates import Candidates
from headwater.dedup.caps import CAPS, Caps
from headwater.dedup.documents import Documents, LakeTable, Texts
from headwater.dedup.estimate import MEMORY_BYTES
from headwater.dedup.spread import PAIRS
from headwater.dedup.verify import verify
from headwater.engine import ordered_map
from headwater.errors import UsageError
from headwater.kernels.flat import whole
from headwater.operators.minhash import NGRAM, NUM_PERM, SEED, minhash_signature

Signatures: TypeAlias = LakeTable | pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch]


def near_duplicate_pairs(
    documents: Documents,
    *,
    threshold: float = THRESHOLD,
    ngram: int = NGRAM,
    num_perm: int = NUM_PERM,
    seed: int = SEED,
    memory_bytes: int = MEMORY_BYTES,
    threads: int | None = None,
) -> pa.Table:
    """Pairs of documents whose word shingles have a Jaccard similarity of at least ``threshold``.

    Parameters
    ----------
    documents: ``doc_id`` (binary(16), unique) and ``text``: an Arrow table, a lake Table, or a stream of
        record batches (which is kept in a temporary file).
    threshold: above 0, at most 1. Bands and rows follow from it (``headwater.dedup.bands``).
    ngram: words in a shingle. Shorter documents have one shingle of all their words; documents without
        words are in no pair.
    memory_bytes: what the blocks of work and DuckDB may use together.

    Returns
    -------
    ``a`` < ``b`` (binary(16)), ``similarity`` (float32, exact before rounding) and ``kind``
    ('equal_shingles' or 'near'), ordered by a, b: the same rows whatever the batches, threads or row order.
    Each pair stands once, except that large families are linked rather than multiplied out: see
    :func:`pairs_from_signatures`.
    """
    settings = {"num_perm": num_perm, "ngram": ngram, "seed": seed}
    with tempfile.TemporaryDirectory(prefix="headwater-dedup-") as name:
        texts = Texts(documents, Path(name))

        def signed(batch: pa.RecordBatch) -> pa.RecordBatch:
            text = whole(batch.column("text"))
            fields = minhash_signature(text, **settings).flatten()
            names = ["doc_id", "num_shingles", "shingle_set_hash", "minhash"]
            return pa.record_batch([batch.column("doc_id"), *fields], names=names)

        found = _pairs(
            ordered_map(signed, texts, threads=threads),
            texts,
            Path(name),
            threshold=threshold,
            ngram=ngram,
            memory_bytes=memory_bytes,
            threads=threads,
        )
        return pa.Table.from_batches(found, schema=PAIRS)


def pairs_from_signatures(
    signatures: Signatures,
    documents: Documents,
    *,
    threshold: float | None = None,
    ngram: int = NGRAM,
    memory_bytes: int = MEMORY_BYTES,
    threads: int | None = None,
    caps: Caps = CAPS,
) -> pa.RecordBatchReader:
    """The same pairs from stored signatures, as a stream; texts are read of candidates only.

    ``signatures``: ``doc_id`` and the fields of the operator ``minhash_signature`` (``num_shingles``,
    ``shingle_set_hash``, ``minhash``), made with the same ``ngram``. ``threshold`` defaults to 0.8.

    All pairs are listed but for three kinds, where listing grows with the square of the copies (``caps``).
    More than ``GROUP_CAP`` documents with *equal* shingle sets are each paired with the smallest id of them;
    two such sets that together make more than ``CROSS_CAP`` pairs are paired once, by their smallest ids; and
    of more than ``BUCKET_CAP`` distinct sets in one band bucket each is paired with some leaders and
    neighbors (``headwater.kernels.pairs``). The first two kinds leave the clusters as they are with every
    pair; in the third a document is missed only if no leader, no neighbor and no smaller bucket links it.

    Work begins with the first batch that is read. Raises DataMismatch when a text is missing or does not
    have the shingles that its signature counted.
    """
    chosen = THRESHOLD if threshold is None else threshold

    def stream() -> Iterator[pa.RecordBatch]:
        with tempfile.TemporaryDirectory(prefix="headwater-dedup-") as name:
            yield from _pairs(
                _signature_batches(signatures),
                Texts(documents, Path(name)),
                Path(name),
                threshold=chosen,
                ngram=ngram,
                memory_bytes=memory_bytes,
                threads=threads,
                caps=caps,
            )

    return pa.RecordBatchReader.from_batches(PAIRS, stream())


def _pairs(
    signatures: Iterable[pa.RecordBatch],
    texts: Texts,
    folder: Path,
    *,
    threshold: float,
    ngram: int,
    memory_bytes: int,
    threads: int | None,
    caps: Caps = CAPS,
) -> Iterator[pa.RecordBatch]:
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold must be above 0 and at most 1, got {threshold}")
    with Candidates(
        folder, threshold=threshold, memory_bytes=memory_bytes, threads=threads, caps=caps
    ) as candidates:
        candidates.load(signatures)
        if candidates.num_sets:
            candidates.find()
            verify(candidates, texts, folder, ngram=ngram, memory_bytes=memory_bytes, threads=threads)
        for batch in candidates.pairs():
            yield batch.cast(PAIRS)


def _signature_batches(signatures: Signatures) -> Iterator[pa.RecordBatch]:
    columns = ["doc_id", "num_shingles", "shingle_set_hash", "minhash"]
    given: Any = signatures
    if hasattr(given, "with_text"):
        yield from given.scan(columns)
    elif isinstance(signatures, pa.Table):
        yield from signatures.select(columns).to_batches()
    else:
        for batch in given:
            yield batch.select(columns)
