"""The engine of line and span deduplication: what occurs more than once, and where it occurred first.

    texts → 64-bit values into a table of two bits each: never seen, seen, shared (fixed memory)
    texts again → keys (128 bits) of what looks shared, with their places → sorted in DuckDB (spills)
      → the first occurrence of each key, and every later one linked to it → sorted by document

The text is read twice and never held; memory is the table, DuckDB's limit, a batch for each thread, and 24
bytes for each document. What only looked shared costs a row to sort and makes no result, so the result is
exact whatever the size of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.documents import Documents, Texts
from headwater.dedup.ids import Ids, ids_from_arrow, ids_to_arrow
from headwater.dedup.scratch import LEAST_BYTES, scratch
from headwater.engine import ordered_map
from headwater.errors import DataMismatch, UsageError
from headwater.kernels.flat import whole
from headwater.kernels.pairs import find_ids
from headwater.kernels.twice import Places, Words, later_occurrences, mark, new_marks

Values = Callable[[pa.Array], tuple[Words, npt.NDArray[np.int64]]]
"""Texts to the values that are marked, and how many each text has."""
Keys = Callable[[pa.Array, Words], tuple[Words, Places]]
"""Texts and the marks to keys (n, 2) of what is shared, and (4, n): row, number, start, end."""

BLOCK_BYTES = 8 << 20
"""Text that a thread works on at a time; what it makes of it is of the same size."""

BYTES_TO_SORT = 40
"""Of DuckDB's limit for each row that is sorted at once; 16 were enough, 5 were not."""

_SORTED_ROWS = 1 << 18
_MOST_DOCUMENTS = (1 << 32) - 1


class Corpus:
    """Texts in the order in which the first occurrence of anything is kept.

    Documents are numbered by that order: that of doc_id, or of ``keep_first`` where it is given.
    """

    def __init__(
        self, documents: Documents, folder: Path, *, first: int = 0, keep_first: pa.Array | None = None
    ) -> None:
        self.texts = Texts(documents, folder)
        self.first = first
        given = np.concatenate([*_ids(documents, self.texts), np.empty((0, 2), dtype=np.uint64)])
        by_id = np.lexsort((given[:, 1], given[:, 0]))
        self.sorted_ids: Ids = np.ascontiguousarray(given[by_id])
        if len(given) > 1 and (same := (self.sorted_ids[1:] == self.sorted_ids[:-1]).all(axis=1)).any():
            twice = ids_to_arrow(self.sorted_ids[1:][same][:1])[0].as_py().hex()
            raise UsageError(f"document {twice} occurs more than once; doc_id must be unique")
        if first + len(given) > _MOST_DOCUMENTS:
            raise UsageError(f"at most {_MOST_DOCUMENTS} documents can be compared in one run")
        self.ids = self.sorted_ids
        """By rank: document ``first + i`` has id ``ids[i]``."""
        self._rank: npt.NDArray[np.int64] | None = None
        if keep_first is not None:
            ranked = ids_from_arrow(keep_first, "keep_first")
            places = find_ids(self.sorted_ids, ranked)
            inside = places >= 0
            self._rank = np.full(len(given), -1, dtype=np.int64)
            # Backwards, so that the first mention of an id counts.
            self._rank[places[inside][::-1]] = np.arange(int(inside.sum()), dtype=np.int64)[::-1]
            if (self._rank < 0).any():
                missing = ids_to_arrow(self.sorted_ids[self._rank < 0][:1])[0].as_py().hex()
                raise DataMismatch(
                    f"keep_first does not name document {missing}",
                    hint="it gives the order of all documents; make it from the same version of the table",
                )
            order = np.argsort(self._rank, kind="stable")
            self._rank[order] = np.arange(len(order))
            self.ids = np.ascontiguousarray(self.sorted_ids[order])

    def __len__(self) -> int:
        return len(self.sorted_ids)

    def ranks(self, doc_ids: pa.Array) -> npt.NDArray[np.uint32]:
        """The number of each document."""
        places = find_ids(self.sorted_ids, ids_from_arrow(doc_ids))
        if self._rank is not None:
            places = self._rank[places]
        return (places + self.first).astype(np.uint32)


def text_of(batch: pa.RecordBatch) -> pa.Array:
    """The texts of a batch, null as empty; UsageError for one that 32-bit offsets cannot address."""
    text = whole(batch.column("text"))
    text = pc.fill_null(text, "") if text.null_count else text
    longest = pc.max(pc.binary_length(text)).as_py()
    if longest is not None and longest >= 1 << 32:
        raise UsageError(f"a document of {longest} bytes is too long to be searched for duplicate spans")
    return text


def blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches, cut so that each holds at most BLOCK_BYTES of text, or one document."""
    for batch in batches:
        if batch.num_rows < 2 or batch.nbytes <= BLOCK_BYTES:
            yield batch
            continue
        ends = np.cumsum(pc.binary_length(batch.column("text")).fill_null(0).to_numpy().astype(np.int64))
        start = 0
        while start < batch.num_rows:
            held = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, held + BLOCK_BYTES, side="right")))
            yield batch.slice(start, stop - start)
            start = stop


class Occurrences:
    """The tables of one run, in a DuckDB file of its own."""

    def __init__(self, folder: Path, *, memory_bytes: int, threads: int | None) -> None:
        self.threads = threads
        # Half of the memory is for these two; the other half for blocks of text, and the process itself.
        self.marks = new_marks(memory_bytes // 8)
        self._sort_bytes = max(memory_bytes * 3 // 8, LEAST_BYTES)
        # In a file: what an in-memory database holds counts against its limit, and a sort needs it all.
        self.connection = scratch(
            folder,
            limit_bytes=self._sort_bytes,
            threads=threads,
            name="occurrences.duckdb",
            ordered=False,  # what is read is ordered
        )
        self.run(
            """create table found (high ubigint, low ubigint, doc uinteger, number uinteger,
                first_byte uinteger, end_byte uinteger)"""
        )

    def __enter__(self) -> Occurrences:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """Execute and fetch all: an unfetched result, even of DDL, keeps a DuckDB 2 connection busy."""
        return self.connection.execute(sql).fetchall()

    def mark(self, corpus: Corpus, values: Values, how: int) -> None:
        """First pass over the texts."""

        def made(batch: pa.RecordBatch) -> tuple[Words, npt.NDArray[np.int64]]:
            return values(text_of(batch))

        for found, counts in ordered_map(made, blocks(corpus.texts), threads=self.threads):
            mark(self.marks, found, counts, how)

    def collect(self, corpus: Corpus, keys: Keys) -> None:
        """Second pass: what looks shared, with its places."""

        def made(batch: pa.RecordBatch) -> pa.Table:
            hashes, places = keys(text_of(batch), self.marks)
            doc = corpus.ranks(batch.column("doc_id"))[places[0]]
            return pa.table(
                {
                    "high": hashes[:, 0].copy(),
                    "low": hashes[:, 1].copy(),
                    "doc": doc,
                    "number": places[1],
                    "first_byte": places[2],
                    "end_byte": places[3],
                }
            )

        for rows in _regrouped(ordered_map(made, blocks(corpus.texts), threads=self.threads)):
            self._insert("found", rows)

    def later(self, *, within: bool, reference: int = 0) -> Iterator[Places]:
        """(7, n): document, number, start, end; document, number and start of the first occurrence.

        In the order of documents and starts.
        """
        names = ("doc", "number", "first_byte", "end_byte", "match_doc", "match_number", "match_byte")
        self.run(f"create table later ({', '.join(f'{name} uinteger' for name in names)})")
        held, key = np.zeros(4, dtype=np.int64), np.zeros(2, dtype=np.uint64)
        for batch in self._sorted("found", "high", 1 << 64, "high, low, doc, first_byte"):
            columns = [np.asarray(column.to_numpy()) for column in batch.columns]
            keys, rows = np.column_stack(columns[:2]), np.stack(columns[2:])
            out = np.empty((7, rows.shape[1]), dtype=np.uint32)
            count = later_occurrences(keys, rows, held, key, reference, within, out)
            if count:
                parts = (out[i, :count].copy() for i in range(7))
                self._insert("later", pa.table(dict(zip(names, parts, strict=True))))
        self.run("drop table found")
        ((documents,),) = self.run("select coalesce(max(doc), 0) + 1 from later")
        for batch in self._sorted("later", "doc", documents, "doc, first_byte"):
            yield np.stack([np.asarray(column.to_numpy()) for column in batch.columns])

    def _sorted(self, table: str, column: str, end: int, order: str) -> Iterator[pa.RecordBatch]:
        """``table`` in ``order``, which begins with ``column`` (0 to ``end``), a range of it at a time.

        One sort of everything ran out of memory at 80 million rows and 384 MB, spilling or not: the sorted
        runs are merged all at once, a block of each in memory.
        """
        ((rows,),) = self.run(f"select count(*) from {table}")
        parts = max(1, -(-rows * BYTES_TO_SORT // self._sort_bytes))
        for part in range(parts):
            low, high = (end * edge // parts for edge in (part, part + 1))
            inside = f"{column} >= {low} and {column} <= {high - 1}"
            query = f"select * from {table} where {inside} order by {order}"
            yield from self.connection.cursor().sql(query).to_arrow_reader(_SORTED_ROWS)

    def _insert(self, table: str, rows: pa.Table) -> None:
        self.connection.register("incoming", rows)
        self.run(f"insert into {table} select * from incoming")
        self.connection.unregister("incoming")


def _ids(documents: Documents, texts: Texts) -> Iterator[Ids]:
    lake: Any = documents
    batches: Iterable[pa.RecordBatch] = lake.scan(["doc_id"]) if hasattr(lake, "with_text") else texts
    for batch in batches:
        yield ids_from_arrow(batch.column("doc_id"))


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Larger tables of the same rows, so that DuckDB is called less often."""
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        if rows >= _SORTED_ROWS:
            yield pa.concat_tables(held)
            held, rows = [], 0
    if rows:
        yield pa.concat_tables(held)
