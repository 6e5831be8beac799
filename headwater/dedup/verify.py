"""Candidates to links: the texts' shingle sets, on disk, and the exact Jaccard of each candidate pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.candidates import Candidates, mapped
from headwater.dedup.ids import ids_from_arrow, ids_to_arrow
from headwater.engine.local import num_threads, ordered_map
from headwater.errors import DataMismatch
from headwater.kernels.pairs import find_ids, jaccard
from headwater.kernels.shingles import Words, shingle_sets

if TYPE_CHECKING:
    from headwater.dedup.documents import Texts

Ints = npt.NDArray[np.int64]

_PAIR_ROWS = 1 << 16


def verify(
    candidates: Candidates,
    texts: Texts,
    folder: Path,
    *,
    ngram: int,
    memory_bytes: int,
    threads: int | None,
) -> None:
    """Fill ``links`` (a, b, similarity) with the candidates that reach the threshold."""
    connection = candidates.connection
    candidates.run("create table if not exists links (a bigint, b bigint, similarity double)")
    wanted = (
        connection.cursor()
        .sql(
            """select set_index, doc_id, num_shingles from sets
        where set_index in (select a from candidates union select b from candidates) order by set_index"""
        )
        .to_arrow_table()
    )
    if wanted.num_rows == 0:
        return
    indices = wanted["set_index"].to_numpy()
    path = folder / "shingles.u64"
    lengths = np.ascontiguousarray(wanted["num_shingles"].to_numpy(), dtype=np.int64)
    starts = _store_sets(texts, wanted["doc_id"], lengths, path, ngram=ngram, threads=threads)
    reader = connection.cursor().sql("select a, b from candidates order by a, b").to_arrow_reader(_PAIR_ROWS)
    with mapped(path, np.dtype(np.uint64)) as (values, release):

        def similarities(block: tuple[Ints, Ints]) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
            a, b = block
            out = np.empty(len(a), dtype=np.float64)
            jaccard(values, starts, lengths, a, b, out)
            return a, b, out

        # What the blocks in flight may touch, at most half of the memory.
        block_bytes = memory_bytes // (2 * (num_threads(threads) + 2))
        blocks = _blocks(reader, indices, lengths, block_bytes, release)
        for a, b, similarity in ordered_map(similarities, blocks, threads=threads):
            good = similarity >= candidates.threshold
            found = {"a": indices[a[good]], "b": indices[b[good]], "similarity": similarity[good]}
            candidates.insert("links", pa.table(found))


def _store_sets(
    texts: Texts, doc_ids: pa.ChunkedArray, lengths: Ints, path: Path, *, ngram: int, threads: int | None
) -> Ints:
    """Write every wanted document's shingle set to ``path``; where each begins, by place in ``doc_ids``."""
    ids = ids_from_arrow(doc_ids)  # ascending, as sets are numbered by them
    starts = np.full(len(ids), -1, dtype=np.int64)

    def made(batch: pa.RecordBatch) -> tuple[Ints, Words, Ints]:
        text = batch.column("text")
        text = pc.fill_null(text, "") if text.null_count else text
        places = find_ids(ids, ids_from_arrow(batch.column("doc_id")))
        values, counts = shingle_sets(text, ngram=ngram)
        return places, values, counts

    written = 0
    with path.open("wb") as file:
        for places, values, counts in ordered_map(made, texts.of(ids), threads=threads):
            if (counts != lengths[places]).any():
                odd = ids_to_arrow(ids[places[counts != lengths[places]]][:1])[0].as_py().hex()
                raise DataMismatch(
                    f"document {odd} does not have the number of shingles that its signature has",
                    hint="the signatures were made from another text or with another ngram; build them again",
                )
            values.tofile(file)
            starts[places] = written + np.cumsum(counts) - counts
            written += len(values)
    if (starts < 0).any():
        missing = ids_to_arrow(ids[starts < 0][:1])[0].as_py().hex()
        raise DataMismatch(
            f"document {missing} has a signature and no text",
            hint="the signatures were made from another version of the documents; build them again",
        )
    return starts


def _blocks(
    reader: pa.RecordBatchReader, indices: Ints, lengths: Ints, block_bytes: int, release: Callable[[], None]
) -> Iterator[tuple[Ints, Ints]]:
    """Candidates as places in ``indices``, cut so that a block touches at most ``block_bytes`` of sets."""
    touched = 0
    for batch in reader:
        a = np.searchsorted(indices, batch.column("a").to_numpy())
        b = np.searchsorted(indices, batch.column("b").to_numpy())
        sizes = np.cumsum((lengths[a] + lengths[b]) * 8)
        cuts = np.flatnonzero(np.diff(sizes // block_bytes)) + 1
        yield from zip(np.split(a, cuts), np.split(b, cuts), strict=True)
        touched += int(sizes[-1]) if len(sizes) else 0
        if touched > 4 * block_bytes:
            release()
            touched = 0
