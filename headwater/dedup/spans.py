"""Exact spans of many tokens that occur in more than one document (Lee et al., arXiv 2107.06499).

Every window of ``min_tokens`` consecutive tokens of a document that an earlier document has too is a
duplicate, and is linked to its first occurrence: the first document, by doc_id or by ``keep_first``, and the
first place in it. Windows that follow each other in both documents make one span. So a token is covered if
and only if it lies in a run of at least ``min_tokens`` tokens that an earlier document has: exactly, without
a cap; a window that 10**5 documents share makes 10**5 spans, not their square.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from headwater.dedup.documents import Documents
from headwater.dedup.ids import Ids, ids_to_arrow
from headwater.dedup.occurrences import Corpus, Occurrences
from headwater.errors import UsageError
from headwater.kernels.spans import anchors, merge_windows, shared_windows, unit_number
from headwater.kernels.twice import ACROSS, QUERY, REFERENCE, WITHIN, Places

MIN_TOKENS = 50
"""Lee et al. (arXiv 2107.06499, 4.1): 50 tokens."""
MEMORY_BYTES = 1 << 30

SPANS = pa.schema(
    [
        pa.field("doc_id", pa.binary(16)),
        pa.field("start", pa.int64()),
        pa.field("end", pa.int64()),
        pa.field("num_tokens", pa.int64()),
        pa.field("match_doc_id", pa.binary(16)),
        pa.field("match_start", pa.int64()),
    ]
)


def duplicate_spans(
    documents: Documents,
    *,
    min_tokens: int = MIN_TOKENS,
    unit: str = "words",
    within_documents: bool = False,
    keep_first: pa.Array | None = None,
    memory_bytes: int = MEMORY_BYTES,
    threads: int | None = None,
) -> pa.RecordBatchReader:
    """Spans of at least ``min_tokens`` tokens that an earlier document has too.

    Parameters
    ----------
    documents: ``doc_id`` (binary(16), unique) and ``text``: an Arrow table, a lake Table, or a stream of
        record batches (which is kept in a temporary file).
    unit: ``words`` (lower-cased, punctuation aside: the words of near-duplicate detection) or ``whitespace``
        (maximal runs of characters that are not white space, as they are).
    within_documents: count a repetition inside one document too.
    keep_first: doc_ids, the one to keep first; by default they go by doc_id.
    memory_bytes: what the table of marks, DuckDB and the blocks of work may use together.

    Returns
    -------
    ``doc_id``, ``start`` and ``end`` (bytes of the UTF-8 text, from the first token to the end of the last),
    ``num_tokens``, ``match_doc_id``, ``match_start``; by document in the order above, and start. Spans of
    one document overlap where their matches are different ones. Work begins with the first batch read.
    """
    _check(min_tokens, unit)

    def stream() -> Iterator[pa.RecordBatch]:
        with tempfile.TemporaryDirectory(prefix="headwater-spans-") as name:
            corpus = Corpus(documents, Path(name), keep_first=keep_first)
            with Occurrences(Path(name), memory_bytes=memory_bytes, threads=threads) as occurrences:
                values = partial(anchors, num_tokens=min_tokens, unit=unit)
                occurrences.mark(corpus, values, WITHIN if within_documents else ACROSS)
                occurrences.collect(corpus, partial(shared_windows, num_tokens=min_tokens, unit=unit))
                yield from _merged(occurrences.later(within=within_documents), corpus.ids, min_tokens)

    return pa.RecordBatchReader.from_batches(SPANS, stream())


def spans_against(
    documents: Documents,
    reference: Documents,
    *,
    min_tokens: int = MIN_TOKENS,
    unit: str = "words",
    memory_bytes: int = MEMORY_BYTES,
    threads: int | None = None,
) -> pa.RecordBatchReader:
    """Spans of ``documents`` that ``reference`` has too, each linked to its first place there.

    As :func:`duplicate_spans`; repetitions inside ``documents`` do not count, and a document may stand in
    both.
    """
    _check(min_tokens, unit)

    def stream() -> Iterator[pa.RecordBatch]:
        with (
            tempfile.TemporaryDirectory(prefix="headwater-spans-") as own,
            tempfile.TemporaryDirectory(prefix="headwater-spans-") as other,
        ):
            earlier = Corpus(reference, Path(other))
            corpus = Corpus(documents, Path(own), first=len(earlier))
            with Occurrences(Path(own), memory_bytes=memory_bytes, threads=threads) as occurrences:
                values = partial(anchors, num_tokens=min_tokens, unit=unit)
                occurrences.mark(earlier, values, REFERENCE)
                occurrences.mark(corpus, values, QUERY)
                for texts in (earlier, corpus):
                    occurrences.collect(texts, partial(shared_windows, num_tokens=min_tokens, unit=unit))
                later = occurrences.later(within=False, reference=len(earlier))
                yield from _merged(later, np.concatenate([earlier.ids, corpus.ids]), min_tokens)

    return pa.RecordBatchReader.from_batches(SPANS, stream())


def _check(min_tokens: int, unit: str) -> None:
    if not 2 <= min_tokens <= 10_000:
        raise UsageError(f"min_tokens must be 2 to 10,000, got {min_tokens}")
    unit_number(unit)


def _merged(later: Iterator[Places], ids: Ids, min_tokens: int) -> Iterator[pa.RecordBatch]:
    open_span = np.zeros(9, dtype=np.int64)
    for rows in later:
        out = np.empty((rows.shape[1] + 1, 6), dtype=np.int64)
        closed = merge_windows(rows, min_tokens, open_span, out)
        if closed:
            yield _batch(out[:closed], ids)
    if open_span[8]:
        yield _batch(open_span[None, :6], ids)


def _batch(rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]], ids: Ids) -> pa.RecordBatch:
    doc, start, end, tokens, match, match_start = (np.ascontiguousarray(rows[:, i]) for i in range(6))
    columns = [ids_to_arrow(ids[doc]), start, end, tokens, ids_to_arrow(ids[match]), match_start]
    return pa.record_batch([pa.array(column) for column in columns], schema=SPANS)
