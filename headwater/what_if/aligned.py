"""Stored columns in the order of the base table's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.ids import ids_from_arrow, ids_to_arrow
from headwater.lake import Table
from headwater.what_if.plan import ROW, Chain
from headwater.what_if.rows import ClusterRows, Rows


@dataclass
class _Source:
    """One relation: read piece by piece where its rows stand as the base table's do, else held whole."""

    table: Table
    columns: list[str]
    held: pa.Table | None = None
    places: npt.NDArray[np.int32] | None = None
    """Row of the base table to row of ``held``; -1 for a document that the relation does not have."""

    def piece(self, start: int, stop: int) -> pa.Table:
        if self.held is None:
            return self.table.dataset.scanner(
                columns=self.columns, offset=start, limit=stop - start, scan_in_order=True
            ).to_table()
        assert self.places is not None
        places = self.places[start:stop]
        indices = pa.array(places, mask=places < 0) if (places < 0).any() else pa.array(places)
        return self.held.take(indices)


class Aligned:
    """The columns of a chain, in pieces. Relations in another order are held, strings as dictionaries."""

    def __init__(
        self, chain: Chain, rows: Rows, tables: Mapping[str, Table], clusters: Mapping[str, ClusterRows]
    ) -> None:
        self._chain = chain
        self._rows = rows
        self._tables = tables
        self._clusters = clusters
        self.num_rows = len(rows)
        self._sources: dict[str, _Source] = {}
        self.one_row_each = True
        """False when a relation has a document twice, so that it cannot be aligned."""
        wanted: dict[str, list[str]] = {}
        for relation, column in chain.columns.values():
            if relation not in clusters and column not in wanted.setdefault(relation, []):
                wanted[relation].append(column)
        for relation, columns in wanted.items():
            self._sources[relation] = self._source(tables[relation], columns)

    def _source(self, table: Table, columns: list[str]) -> _Source:
        where = None if table.name == self._chain.base else self._rows.rows_of(table)
        if where is None:
            return _Source(table, columns)
        there = where >= 0
        places = np.full(self.num_rows, -1, dtype=np.int32)
        places[where[there]] = np.flatnonzero(there)
        if int(np.count_nonzero(places >= 0)) != int(np.count_nonzero(there)):
            self.one_row_each = False
        held = table.to_arrow(columns)
        for index, field in enumerate(held.schema):
            if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
                held = held.set_column(
                    index, field.name, held[field.name].combine_chunks().dictionary_encode()
                )
            else:
                held = held.set_column(index, field, held[field.name].combine_chunks())
        return _Source(table, columns, held, places)

    def columns(self, start: int, stop: int) -> pa.Table:
        """Rows ``[start, stop)``: the row number and every column of the chain."""
        pieces = {name: source.piece(start, stop) for name, source in self._sources.items()}
        found = {ROW: pa.array(np.arange(start, stop, dtype=np.int32))}
        for name, (relation, column) in self._chain.columns.items():
            if relation in self._clusters:
                found[name] = self._cluster_column(relation, column, start, stop)
            else:
                found[name] = pieces[relation][column]
        return pa.table(found)

    def _cluster_column(self, relation: str, column: str, start: int, stop: int) -> pa.Array:
        clusters = self._clusters[relation]
        ranks = self._rows.rank[start:stop]
        if column == "cluster_id":
            return clusters.ids(self._rows, ranks)
        sizes = clusters.sizes[clusters.smallest[ranks]]
        if column == "cluster_size":
            return pa.array(sizes.astype(np.int64))
        assert column == "doc_id"
        ids = ids_to_arrow(self._rows.ids[ranks])
        return ids if clusters.total else pc.if_else(pa.array(sizes > 1), ids, pa.scalar(None, pa.binary(16)))

    def alone(self) -> npt.NDArray[np.bool_] | None:
        """Which documents have their partition to themselves; ``None`` when that cannot be told by ids."""
        assert self._chain.partition is not None
        relation, column = self._chain.columns[self._chain.partition]
        if relation in self._clusters:
            if column != "cluster_id":
                return None
            clusters = self._clusters[relation]
            if not clusters.total:
                return None  # documents without a cluster share the partition of NULL
            of_rank: npt.NDArray[np.bool_] = clusters.sizes == 1  # 0 for all but smallest ids
            return of_rank[self._rows.rank]
        if self._tables[relation].schema.field(column).type != pa.binary(16):
            return None
        values = self._sources[relation].piece(0, self.num_rows)[column]
        known = pc.is_valid(values).to_numpy(zero_copy_only=False)
        ranks = self._rows.ranks_of(ids_from_arrow(values.drop_null()))
        if (ranks < 0).any():
            return None
        sizes = np.bincount(ranks, minlength=self.num_rows)
        found = np.zeros(self.num_rows, dtype=np.bool_)
        found[known] = sizes[ranks] == 1
        return found
