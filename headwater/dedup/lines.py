"""Lines and paragraphs that occur more than once in a corpus (CCNet, RefinedWeb, Dolma).

Units are equal when their normalized forms are (``headwater.kernels.normalize``); the first occurrence is
kept: the first document, by doc_id or by ``keep_first``, and the first place in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.dedup.documents import Documents
from headwater.dedup.ids import ids_to_arrow
from headwater.dedup.occurrences import Corpus, Occurrences
from headwater.kernels.lines import units
from headwater.kernels.twice import ACROSS, WITHIN, Places, Words, marked

MIN_CHARS = 20
"""Characters of the normalized form from which a unit counts: shorter lines (``else:``, ``return None``, a
date) repeat in any corpus and say nothing. Our choice; CCNet and RefinedWeb take every length."""
MEMORY_BYTES = 1 << 30

LINES = pa.schema(
    [
        pa.field("doc_id", pa.binary(16)),
        pa.field("start", pa.int64()),
        pa.field("end", pa.int64()),
        pa.field("num_chars", pa.int64()),
        pa.field("match_doc_id", pa.binary(16)),
        pa.field("match_start", pa.int64()),
    ]
)


def duplicate_lines(
    documents: Documents,
    *,
    unit: str = "line",
    form: str = "whitespace",
    min_chars: int = MIN_CHARS,
    within_documents: bool = True,
    keep_first: pa.Array | None = None,
    memory_bytes: int = MEMORY_BYTES,
    threads: int | None = None,
) -> pa.RecordBatchReader:
    """Every line or paragraph that occurred before, linked to its first occurrence.

    Parameters
    ----------
    documents: ``doc_id`` (binary(16), unique) and ``text``: an Arrow table, a lake Table, or a stream of
        record batches (which is kept in a temporary file).
    unit: ``line`` (between line feeds: what CCNet and Dolma call a paragraph) or ``paragraph`` (between blank
        lines).
    form: what is compared: ``exact``, ``whitespace`` or ``words`` (``headwater.kernels.normalize``).
    min_chars: characters of the normalized form from which a unit counts.
    within_documents: count a repetition inside one document too, as CCNet and Dolma do.
    keep_first: doc_ids, the one to keep first; by default they go by doc_id.
    memory_bytes: what the table of marks, DuckDB and the blocks of work may use together.

    Returns
    -------
    ``doc_id``, ``start`` and ``end`` (bytes of the UTF-8 text, line feed excluded), ``num_chars`` (code
    points of the unit as it stands), ``match_doc_id``, ``match_start``; by document in the order above, and
    start. Work begins with the first batch read.
    """
    units(pa.array([], pa.large_string()), unit=unit, form=form, min_chars=min_chars)  # refuses bad settings

    def values(text: pa.Array) -> tuple[Words, npt.NDArray[np.int64]]:
        found = units(text, unit=unit, form=form, min_chars=min_chars)
        counts = np.bincount(found.row, minlength=len(text)).astype(np.int64)
        return found.hashes[:, 1].copy(), counts

    def keys(text: pa.Array, marks: Words) -> tuple[Words, Places]:
        found = units(text, unit=unit, form=form, min_chars=min_chars)
        shared = marked(marks, found.hashes[:, 1].copy())
        places = (found.row, found.chars, found.start, found.end)
        return found.hashes[shared], np.stack([part[shared] for part in places])

    def stream() -> Iterator[pa.RecordBatch]:
        with tempfile.TemporaryDirectory(prefix="headwater-lines-") as name:
            corpus = Corpus(documents, Path(name), keep_first=keep_first)
            with Occurrences(Path(name), memory_bytes=memory_bytes, threads=threads) as occurrences:
                occurrences.mark(corpus, values, WITHIN if within_documents else ACROSS)
                occurrences.collect(corpus, keys)
                for rows in occurrences.later(within=within_documents):
                    doc, chars, start, end, match, _, match_start = rows.astype(np.int64)
                    columns = [
                        ids_to_arrow(corpus.ids[doc]), start, end, chars,
                        ids_to_arrow(corpus.ids[match]), match_start,
                    ]  # fmt: skip
                    yield pa.record_batch([pa.array(column) for column in columns], schema=LINES)

    return pa.RecordBatchReader.from_batches(LINES, stream())
