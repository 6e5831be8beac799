"""What came and went since an index was made, and the rows of tables by their ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from headwater.dedup.candidates import Candidates
from headwater.dedup.caps import Caps
from headwater.dedup.documents import Documents
from headwater.dedup.ids import ids_from_arrow
from headwater.dedup.index import index_rows, matrix
from headwater.kernels.pairs import find_ids
from headwater.lake.table import in_list

if TYPE_CHECKING:
    from headwater.lake import Table

LOOKUP_ROWS = 2_048
MOST_LOOKUPS = 8
"""Rows of a table without an index by id: each look-up reads the ids once and the wanted rows; beyond
some 16,000 rows one scan of everything is faster (measured at 200,000 rows)."""

REBUILD_SHARE = 0.3
"""Above this share of documents that came or went, a full build is no slower."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What an increment found; ``worth_it`` is False where a full build is to be made instead."""

    num_added: int
    num_removed: int
    worth_it: bool


class Changes:
    """Signatures and index side by side, in DuckDB tables: what came, what went, and which sets changed."""

    def __init__(
        self,
        folder: Path,
        *,
        index: Table,
        pairs: Table,
        signatures: Table,
        documents: Documents,
        threshold: float,
        ngram: int,
        memory_bytes: int,
        threads: int | None,
        caps: Caps,
        thorough: bool = False,
    ) -> None:
        self._folder, self._thorough = folder, thorough
        self._index, self._pairs, self._signatures = index, pairs, signatures
        self._documents = documents
        self._ngram, self._memory_bytes, self._threads = ngram, memory_bytes, threads
        self._work = Candidates(
            folder,
            threshold=threshold,
            memory_bytes=memory_bytes,
            threads=threads,
            caps=caps,
            in_memory=True,
        )
        self._run = self._work.run
        self.change = self._compare()

    def close(self) -> None:
        self._work.connection.close()

    # -- what changed ----------------------------------------------------------------------------

    def _compare(self) -> Change:
        """Fill ``now``, ``before``, ``added``, ``removed`` and ``changed`` (the sets they belong to)."""
        self._load("now", self._signatures, ["doc_id", "shingle_set_hash", "num_shingles"])
        self._load("before", self._index, ["doc_id", "shingle_set_hash"])
        same = "using (doc_id, set_hash)"
        self._run(f"create table added as select doc_id, set_hash from now anti join before {same}")
        self._run(f"create table removed as select doc_id, set_hash from before anti join now {same}")
        added, removed = self._count("added"), self._count("removed")
        before, now = self._count("before"), self._count("now")
        # A doubled document breaks the balance; the full build names it.
        worth_it = now == before + added - removed and added + removed <= REBUILD_SHARE * max(before, 1)
        self._run(
            """create table changed as
            with hashes as (select set_hash from added union select set_hash from removed),
            old as (
                select set_hash, min(doc_id) as first_doc, count(*) as members
                from before semi join hashes using (set_hash) group by set_hash
            ),
            new as (
                select set_hash, min(doc_id) as first_doc, count(*) as members
                from now semi join hashes using (set_hash) group by set_hash
            )
            select set_hash, old.members is null as is_born, new.members is null as is_dead,
                old.first_doc is distinct from new.first_doc as is_moved
            from hashes left join old using (set_hash) left join new using (set_hash)"""
        )
        return Change(num_added=added, num_removed=removed, worth_it=worth_it)

    def index_added(self) -> pa.Table:
        """Rows of the index for the documents that came."""
        wanted = self._ids("select doc_id from added")
        return index_rows(self._signature_rows(wanted), self._work.threshold).read_all()

    def removed_ids(self) -> pa.Array:
        """doc_id of the documents that went."""
        return self._ids("select doc_id from removed")

    # -- reading ---------------------------------------------------------------------------------

    def _load(self, into: str, table: Table, columns: list[str]) -> None:
        self._work.connection.register("incoming", table.scan(columns))
        shingles = "where num_shingles > 0" if "num_shingles" in columns else ""
        self._run(
            f"create table {into} as select doc_id::uuid as doc_id, shingle_set_hash::uuid as set_hash "
            f"from incoming {shingles}"
        )
        self._work.connection.unregister("incoming")

    def _insert(self, into: str, rows: pa.Table, select: str) -> None:
        self._work.connection.register("incoming", rows)
        self._run(f"insert into {into} {select}")
        self._work.connection.unregister("incoming")

    def _insert_bands(self, into: str, rows: pa.Table, keep: str = "") -> None:
        """(key, set_hash) of rows of the index."""
        if rows.num_rows == 0:
            return
        bands = matrix(rows["band_keys"].combine_chunks())
        hashes = rows["shingle_set_hash"].take(pa.array(np.repeat(np.arange(len(bands)), bands.shape[1])))
        cells = pa.table({"key": bands.reshape(-1), "set_hash": hashes})
        self._insert(
            into, cells, f"select * from (select key, set_hash::uuid as set_hash from incoming) {keep}"
        )

    def _index_rows(self, query: str) -> pa.Table:
        wanted = self._ids(query)
        batches = _rows_by_id(self._index, wanted, self._index.schema.names)
        return pa.Table.from_batches(batches, self._index.schema)

    def _signature_rows(self, wanted: pa.Array) -> Iterator[pa.RecordBatch]:
        columns = ["doc_id", "num_shingles", "shingle_set_hash", "minhash"]
        return _rows_by_id(self._signatures, wanted, columns)

    def _ids(self, query: str) -> pa.Array:
        """The uuid column of a query as 16 bytes, ascending."""
        rows = self._work.connection.cursor().sql(f"select i::blob as i from ({query}) t(i) order by i")
        return rows.to_arrow_table()["i"].combine_chunks().cast(pa.binary(16))

    def _count(self, table: str) -> int:
        return int(self._run(f"select count(*) from {table}")[0][0])


def _rows_by_id(table: Table, wanted: pa.Array, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of the documents in ``wanted`` (ascending), in any order."""
    if len(wanted) <= LOOKUP_ROWS * MOST_LOOKUPS:
        for start in range(0, len(wanted), LOOKUP_ROWS):
            part = in_list("doc_id", wanted.slice(start, LOOKUP_ROWS))
            yield from table.scan(columns, filter=part)
        return
    ids = ids_from_arrow(wanted)
    for batch in table.scan(columns):
        rows = find_ids(ids, ids_from_arrow(batch["doc_id"])) >= 0
        if rows.any():
            yield batch.filter(pa.array(rows))
