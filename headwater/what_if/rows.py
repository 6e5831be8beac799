"""Documents by row number: where each id of a stored table stands in the base table.

Joins of ten million 16-byte ids cost a database more than all rules together. Stored tables mostly hold
the documents in one of two orders, that of the base table or that of doc_id, so one sort of the base
table's ids makes nearly every join a copy.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.ids import Ids, ids_from_arrow, ids_to_arrow
from headwater.engine.local import num_threads
from headwater.errors import DataMismatch
from headwater.kernels.pairs import join_components, settle_components
from headwater.kernels.sorted_ids import Places, find_in_buckets, has_repeats, sort_ids

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headwater.lake import Table

Ints = npt.NDArray[np.int64]

BUCKET_ROWS = 4
"""Ids in one bucket of the look-up index, on average, where ids are hashes."""
MAX_BUCKET_ROWS = 64
"""Above it, ids are no hashes (they count up, say), and are sorted by comparison."""
PIECE = 1 << 18
"""Ids that one thread looks up at once."""
SCAN_ROWS = 1 << 21


class Rows:
    """The row of every document of the base table. Holds 24 bytes for each, and 2 of an index."""

    def __init__(self, base: Table) -> None:
        ids: Ids = np.empty((base.num_rows, 2), dtype=np.uint64)
        at = 0
        for batch in base.scan(["doc_id"], batch_rows=SCAN_ROWS):
            ids[at : at + batch.num_rows] = ids_from_arrow(batch.column("doc_id"))
            at += batch.num_rows
        bits = max(len(ids) // BUCKET_ROWS, 1).bit_length()
        self._shift = np.uint64(64 - bits)
        self.ids: Ids = np.empty_like(ids)
        """In ascending order; the place of an id there is its rank."""
        self.order: Places = np.empty(len(ids), dtype=np.int32)
        """Rank to row."""
        self._starts = np.zeros((1 << bits) + 1, dtype=np.int32)
        if not sort_ids(ids, self._shift, self._starts, self.ids, self.order, MAX_BUCKET_ROWS):
            order = np.lexsort((ids[:, 1], ids[:, 0]))
            self.order[:] = order
            self.ids[:] = ids[order]
        self.rank: Places = np.empty(len(ids), dtype=np.int32)
        """Row to rank."""
        self.rank[self.order] = np.arange(len(ids), dtype=np.int32)
        if has_repeats(self.ids):
            raise DataMismatch(f"{base.ref} has a doc_id more than once")

    def __len__(self) -> int:
        return len(self.ids)

    def ranks_of(self, ids: Ids) -> Ints:
        """Rank of each id, or -1."""
        found = np.empty(len(ids), dtype=np.int64)
        if len(ids) <= PIECE:
            self._find(ids, found, 0)
            return found
        with ThreadPoolExecutor(num_threads()) as pool:
            pieces = range(0, len(ids), PIECE)
            list(pool.map(lambda at: self._find(ids, found, at), pieces))
        return found

    def _find(self, ids: Ids, found: Ints, at: int) -> None:
        find_in_buckets(self.ids, self._starts, self._shift, ids[at : at + PIECE], found[at : at + PIECE])

    def rows_of(self, table: Table) -> Ints | None:
        """Row of the base table for each row of ``table`` (-1 for foreign ids); ``None`` for "the same"."""
        if self._has_order_of(table):
            return None
        found = np.empty(table.num_rows, dtype=np.int64)
        at = 0
        for batch in table.scan(["doc_id"], batch_rows=SCAN_ROWS):
            ranks = self.ranks_of(ids_from_arrow(batch.column("doc_id")))
            found[at : at + len(ranks)] = np.where(ranks >= 0, self.order[ranks], -1)
            at += len(ranks)
        return found

    def _has_order_of(self, table: Table) -> bool:
        if table.num_rows != len(self):
            return False
        at = 0
        for batch in table.scan(["doc_id"], batch_rows=SCAN_ROWS):
            ids = ids_from_arrow(batch.column("doc_id"))
            if not np.array_equal(ids, self.ids[self.rank[at : at + len(ids)]]):
                return False
            at += len(ids)
        return True


class ClusterRows:
    """Duplicate clusters in row numbers."""

    def __init__(
        self, rows: Rows, pairs: Iterable[pa.RecordBatch], threshold: float, *, total: bool = True
    ) -> None:
        """Connect the pairs of at least ``threshold`` (float32, as similarities are stored).

        ``total``: a document without a twin is a cluster of its own, as ``total_clusters`` has it; otherwise
        it has none.
        """
        self.total = total
        parents = np.arange(len(rows), dtype=np.int64)
        for batch in pairs:
            similar = batch.column("similarity").to_numpy(zero_copy_only=False).astype(np.float32)
            keep = similar >= np.float32(threshold)
            if not keep.any():
                continue
            batch = batch.filter(pa.array(keep))
            a, b = (rows.ranks_of(ids_from_arrow(batch.column(side), side)) for side in ("a", "b"))
            if (a < 0).any() or (b < 0).any():
                raise DataMismatch(
                    "a duplicate pair names a document that is not in the base table",
                    hint="the pairs were made from another version of the documents; build them again",
                )
            join_components(parents, a, b)
        settle_components(parents)
        sizes = np.bincount(parents, minlength=len(parents))
        self.smallest: Places = parents.astype(np.int32)
        """Rank of a document to the rank of the smallest id of its cluster."""
        self.sizes: Places = sizes.astype(np.int32)
        """Rank of a smallest id to the size of its cluster."""

    def ids(self, rows: Rows, ranks: Any) -> pa.Array:
        """``cluster_id`` of the documents of these ranks."""
        smallest = self.smallest[ranks]
        ids = ids_to_arrow(rows.ids[smallest])
        if self.total:
            return ids
        return pc.if_else(pa.array(self.sizes[smallest] > 1), ids, pa.scalar(None, pa.binary(16)))

    def to_arrow(self, rows: Rows, *, empty: bool = False) -> pa.Table:
        """``doc_id``, ``cluster_id`` and, where every document has a cluster, ``cluster_size``."""
        ranks = np.arange(0 if empty else len(rows))
        if not self.total:
            ranks = ranks[self.sizes[self.smallest[ranks]] > 1]
        columns = {"doc_id": ids_to_arrow(rows.ids[ranks]), "cluster_id": self.ids(rows, ranks)}
        if self.total:
            columns["cluster_size"] = pa.array(self.sizes[self.smallest[ranks]].astype(np.int64))
        return pa.table(columns)
