"""What moves: the documents that pass now against those that the stored version kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.dedup.ids import ids_from_arrow, ids_to_arrow
from headwater.errors import DataMismatch
from headwater.lake.table import in_list
from headwater.lineage import open_optional
from headwater.operators import operator
from headwater.report.narrow import literal
from headwater.report.private import WITHHELD, is_private
from headwater.what_if import question
from headwater.what_if.rows import SCAN_ROWS

if TYPE_CHECKING:
    from headwater.lake import Lake, Table
    from headwater.report.losses import Decided
    from headwater.what_if.decide import Outcomes
    from headwater.what_if.inputs import Inputs
    from headwater.what_if.rows import ClusterRows, Rows

Flags = npt.NDArray[np.bool_]


class Comparison:
    """Both sides by row of the base table."""

    def __init__(self, lake: Lake, facts: Decided, rows: Rows, outcomes: Outcomes) -> None:
        self._lake = lake
        self._facts = facts
        self._rows = rows
        self._outcomes = outcomes
        self.passes = outcomes.passes()
        self.kept = np.zeros(len(rows), dtype=np.bool_)
        for batch in facts.table.scan(["doc_id"], batch_rows=SCAN_ROWS):
            ranks = rows.ranks_of(ids_from_arrow(batch.column("doc_id")))
            if (ranks < 0).any():
                raise DataMismatch(
                    f"{facts.table.ref} holds documents that {facts.base.ref} does not",
                    hint="the base table at the version it was built from is gone; build it again",
                )
            self.kept[rows.order[ranks]] = True
        self.gained: Flags = self.passes & ~self.kept
        self.lost: Flags = self.kept & ~self.passes
        self.unit, self._sizes = self._measure()

    def amount(self, which: Flags) -> question.Amount:
        """Documents and their size."""
        size = None if self._sizes is None else int(self._sizes[which].sum())
        return question.Amount(rows=int(np.count_nonzero(which)), size=size)

    def _measure(self) -> tuple[str, npt.NDArray[np.int64] | None]:
        """The unit of sizes and the size of each document.

        Tokens where a tokenizer has counted some of these documents (the others at the same tokens per
        byte), else bytes of UTF-8 text.
        """
        base = self._facts.base
        if "text_bytes" not in base.schema.names:
            return "documents", None
        column = base.to_arrow(["text_bytes"])["text_bytes"]
        sizes = column.fill_null(0).to_numpy().astype(np.int64, copy=False)
        tokens = open_optional(self._lake, "tokens")
        if tokens is None or not {"doc_id", "num_tokens"} <= set(tokens.schema.names):
            return "bytes of text", sizes
        counted = np.full(len(sizes), -1, dtype=np.int64)
        for batch in tokens.scan(["doc_id", "num_tokens"]):
            ranks = self._rows.ranks_of(ids_from_arrow(batch.column("doc_id")))
            known = ranks >= 0
            counts = batch.column("num_tokens").to_numpy(zero_copy_only=False)
            counted[self._rows.order[ranks[known]]] = counts[known]
        known = counted >= 0
        measured = int(sizes[known].sum())
        if not measured:
            return "bytes of text", sizes
        share = int(counted[known].sum()) / measured
        if known.all():
            return "tokens", counted
        counted[~known] = np.rint(sizes[~known] * share).astype(np.int64)
        return f"tokens (estimated at {share:.3g} a byte where not counted)", counted

    def by_source(self) -> Iterator[question.SourceChange]:
        """The sources that gain or lose, those that change most first."""
        moved = self.gained | self.lost
        base = self._facts.base
        if not moved.any():
            return
        if "source" in base.schema.names:
            parts = []
            at = 0
            for batch in base.scan(["source"]):
                here = moved[at : at + batch.num_rows]
                at += batch.num_rows
                parts.append(batch.column("source").filter(pa.array(here)).dictionary_encode())
            column = pa.chunked_array(parts).unify_dictionaries().combine_chunks()
            names = [*column.dictionary.to_pylist(), "(none)"]
            codes = column.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
        else:
            names, codes = ["(none)"], np.zeros(int(np.count_nonzero(moved)), dtype=np.int32)
        gains = self.gained[moved]
        sizes = self._sizes[moved] if self._sizes is not None else None
        rows = [np.bincount(codes[side], minlength=len(names)) for side in (gains, ~gains)]
        order = sorted(
            (code for code in range(len(names)) if rows[0][code] + rows[1][code]),
            key=lambda code: (-int(rows[0][code] + rows[1][code]), names[code]),
        )
        totals = []
        for side in (gains, ~gains):
            # A weighted bincount sums as float64: exact to 2**53, which is nine petabytes.
            weights = None if sizes is None else sizes[side].astype(np.float64)
            totals.append(None if weights is None else np.bincount(codes[side], weights, len(names)))
        for code in order:
            gained, lost = (
                question.Amount(rows=int(count[code]), size=None if size is None else int(size[code]))
                for count, size in zip(rows, totals, strict=True)
            )
            yield question.SourceChange(source=names[code] or "(none)", gained=gained, lost=lost)

    def samples(
        self,
        side: str,
        inputs: Inputs,
        clusters: Mapping[str, ClusterRows],
        columns: Sequence[str],
        *,
        limit: int,
        seed: int,
    ) -> tuple[question.Sample, ...]:
        """Documents that moved to ``side``, the same ones whenever the same question is asked."""
        at = np.flatnonzero(self.gained if side == "gained" else self.lost)
        if not len(at) or not limit:
            return ()
        hashes = operator("seeded_hash")(self._ids(at), seed=seed).to_numpy()
        at = at[np.argpartition(hashes, limit - 1)[:limit]] if len(at) > limit else at
        ids = self._ids(at)
        base = self._facts.base
        names = [c for c in ("source", "path") if c in base.schema.names]
        places = base.dataset.take(at.tolist(), columns=names).to_pylist() if names else [{}] * len(at)
        values = self._values(at, ids, inputs, clusters, columns)
        failed = self._failed_before(ids) if side == "gained" else {}
        samples = []
        for row, doc_id, place in zip(at.tolist(), ids.to_pylist(), places, strict=True):
            samples.append(
                question.Sample(
                    doc_id=doc_id.hex(),
                    source=place.get("source"),
                    path=place.get("path"),
                    size=None if self._sizes is None else int(self._sizes[row]),
                    rules=failed.get(doc_id, ()) if side == "gained" else self._outcomes.of_row(row),
                    values=values[doc_id],
                )
            )
        return tuple(sorted(samples, key=lambda s: (s.source or "", s.path or "", s.doc_id)))

    def _ids(self, at: npt.NDArray[np.int64]) -> pa.Array:
        return ids_to_arrow(self._rows.ids[self._rows.rank[at]])

    def _failed_before(self, ids: pa.Array) -> dict[bytes, tuple[str, ...]]:
        facts = self._facts
        decisions = open_optional(self._lake, f"{facts.schema}.decisions")
        if decisions is None:
            return {}
        mine = f"build_id = {literal(facts.build_id)} and {in_list('doc_id', ids)}"
        rows = decisions.to_arrow(["table", "doc_id", "failed", "unknown"], filter=mine).to_pylist()
        return {
            row["doc_id"]: (*(row["failed"] or ()), *(f"{rule} unknown" for rule in row["unknown"] or ()))
            for row in rows
            if row["table"] == facts.name
        }

    def _values(
        self,
        at: npt.NDArray[np.int64],
        ids: pa.Array,
        inputs: Inputs,
        clusters: Mapping[str, ClusterRows],
        columns: Sequence[str],
    ) -> dict[bytes, dict[str, Any]]:
        """Stored values of ``columns``; the first table that has a column says it. Ids are shown as hex."""
        found: dict[bytes, dict[str, Any]] = {doc_id: {} for doc_id in ids.to_pylist()}
        left = list(columns)
        for made in clusters.values():
            smallest = made.smallest[self._rows.rank[at]]
            members = ids_to_arrow(self._rows.ids[smallest]).to_pylist()
            for doc_id, cluster, size in zip(found, members, made.sizes[smallest].tolist(), strict=True):
                found[doc_id] |= {"cluster_id": cluster.hex(), "cluster_size": size}
            left = [c for c in left if c not in ("cluster_id", "cluster_size")]
        for table in inputs.tables.values():
            mine = [c for c in left if c in table.schema.names and "doc_id" in table.schema.names]
            left = [c for c in left if c not in mine]
            for doc_id, values in (_look_up(table, ids, mine, at) if mine else {}).items():
                for column, value in values.items():
                    shown = value.hex() if isinstance(value, bytes) else value
                    found[doc_id][column] = WITHHELD if is_private(column) else shown
        return found


def _look_up(
    table: Table, ids: pa.Array, columns: Sequence[str], at: npt.NDArray[np.int64]
) -> dict[bytes, dict[str, Any]]:
    """Rows by id: first where the base table has them, since many tables stand in its order."""
    wanted = ["doc_id", *columns]
    rows: list[dict[str, Any]] = []
    if int(at.max()) < table.num_rows:
        rows = table.dataset.take(at.tolist(), columns=wanted).to_pylist()
    if [row["doc_id"] for row in rows] != ids.to_pylist():
        rows = table.to_arrow(wanted, filter=in_list("doc_id", ids)).to_pylist()
    return {row.pop("doc_id"): row for row in rows}
