# the names in these queries are ours; every value is a parameter
"""Which trained steps hold some of a set of documents: one join, in DuckDB, over ids.

Three narrow relations meet: the asked ids, ``exposures`` (looked up through its index, or streamed once
where many ids are asked) and the trained steps of a run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.lake.table import LOOKUP_ROWS, in_list
from headwater.report.narrow import connection, one
from headwater.sql import run as execute
from headwater.trace.orders import FLAT, exposures_of_order, flat_spans, taken_spans
from headwater.trace.runs import checkpoints_of, trained_steps

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Lake, Table
    from headwater.trace.runs import Run

INDEXED_IDS = 20_000
"""Up to this many ids go through the index on ``doc_id``; beyond it one scan of ``exposures`` is cheaper."""

TAKEN_SHARE = 0.02
"""Below this share of an order's sequences their spans are taken one by one, else read in one scan."""


@dataclass(frozen=True)
class Asked:
    """An open database with the asked ids and where each order of a run holds them.

    Temporary tables: ``asked(doc_id)``, ``packed(digest, doc_id, sequence_index)``.
    """

    con: duckdb.DuckDBPyConnection
    lake: Lake
    orders: dict[str, Table]

    def num_packed(self) -> int:
        """Documents, of those asked, that some order holds."""
        return int(one(self.con, "select count(distinct doc_id) from packed")[0])

    def sequences(self, digest: str) -> tuple[int, ...]:
        """The sequences of one order that hold some of the asked documents."""
        query = "select distinct sequence_index from packed where digest = ? order by 1"
        return tuple(int(i) for (i,) in execute(self.con, query, [digest]))

    def join(self, run: Run, **limits: Any) -> pa.Table:
        """Make the table ``seen(step, attempt, digest, sequence_index, doc_id)`` for a run.

        Returns the run's trained steps; ``limits`` are those of :func:`headwater.trace.runs.trained_steps`.
        """
        steps = trained_steps(self.lake, run, **limits)
        self.con.register("_steps", steps)
        execute(self.con, "create or replace temp table trained as select * from _steps")
        self.con.unregister("_steps")
        execute(
            self.con,
            "create or replace temp table seen "
            "(step bigint, attempt bigint, digest varchar, sequence_index bigint, doc_id blob)",
        )
        for digest in self.orders:
            execute(self.con, _join_sql(self.con, digest), [digest, digest])
        return steps

    def steps(self) -> tuple[int, ...]:
        return tuple(int(s) for (s,) in execute(self.con, "select distinct step from seen order by 1"))

    def load_parts(self) -> None:
        """Make ``parts(tokens, passes, forms, doc_id)``: what was trained on of each seen document.

        ``tokens`` counts every pass; ``passes`` the epochs, which run on through the stages of an order;
        ``forms`` are codes of ``FORMS``.
        """
        execute(
            self.con,
            "create or replace temp table spans "
            "(digest varchar, sequence_index bigint, doc_id blob, length bigint, epoch int, form int, "
            "began varchar)",
        )
        for digest, order in self.orders.items():
            query = "select distinct sequence_index from seen where digest = ? order by 1"
            mine = [int(i) for (i,) in execute(self.con, query, [digest])]
            if not mine:
                continue
            few = len(mine) <= max(TAKEN_SHARE * order.num_rows, 64)
            batches = taken_spans(order, mine) if few else flat_spans(order, mine[0], mine[-1] + 1)
            self.con.register("_spans", pa.RecordBatchReader.from_batches(FLAT, batches))
            execute(
                self.con,
                "insert into spans select ?, sequence_index, doc_id, length, epoch, form, ? "
                "from _spans semi join asked using (doc_id)",
                [digest, self._began(digest)],
            )
            self.con.unregister("_spans")
        execute(
            self.con,
            "create or replace temp table parts as select p.doc_id, sum(length)::bigint as tokens, "
            "count(distinct (began, epoch)) as passes, list_sort(list_distinct(list(form))) as forms "
            "from spans p join seen s using (digest, sequence_index, doc_id) group by 1",
        )

    def _began(self, digest: str) -> str:
        """The order that this one continues as a later stage, by digest: the first that is known here."""
        order, seen = self.orders[digest], {digest}
        while (before := (order.provenance.extra.get("continues") or {}).get("digest")) in self.orders:
            if before in seen:
                break  # a damaged record must not loop for ever
            seen.add(before)
            digest, order = before, self.orders[before]
        return digest

    def checkpoints(self, run: Run, **limits: Any) -> tuple[tuple[int, str, int], ...]:
        """``(step, path, documents)`` of the standing checkpoints, and how many asked ones each has seen."""
        first = execute(
            self.con,
            "select step, sum(count(*)) over (order by step)::bigint from "
            "(select min(step) as step from seen group by doc_id) group by step order by step",
        )
        starts, totals = [int(step) for step, _ in first], [0, *(int(total) for _, total in first)]
        return tuple(
            (step, path, totals[bisect_right(starts, step)])
            for step, path in checkpoints_of(self.lake, run.run_id, **limits)
        )


@contextmanager
def asked(lake: Lake, orders: dict[str, Table], ids: pa.Array) -> Iterator[Asked]:
    """Look ``ids`` (binary(16), distinct) up in the exposures of ``orders``, by digest."""
    with connection() as con:
        con.register("_ids", pa.table({"doc_id": ids}))
        execute(con, "create temp table asked as select doc_id from _ids")
        con.unregister("_ids")
        execute(con, "create temp table packed (digest varchar, doc_id blob, sequence_index bigint)")
        for digest, order in orders.items():
            for reader in _exposures(lake, order, ids):
                con.register("_found", reader)
                execute(
                    con,
                    "insert into packed select distinct ?, doc_id, sequence_index "
                    "from _found semi join asked using (doc_id)",
                    [digest],
                )
                con.unregister("_found")
        yield Asked(con, lake, orders)


def _exposures(lake: Lake, order: Table, ids: pa.Array) -> Iterator[pa.RecordBatchReader | pa.Table]:
    exposures = exposures_of_order(lake, order)
    if not len(ids):
        return
    if exposures is None:
        for batch in flat_spans(order):
            yield pa.Table.from_batches([batch.select(["doc_id", "sequence_index"])])
    elif len(ids) <= INDEXED_IDS and exposures.has_id_index:
        for start in range(0, len(ids), LOOKUP_ROWS):
            part = ids.slice(start, LOOKUP_ROWS)
            yield exposures.to_arrow(["doc_id", "sequence_index"], filter=in_list("doc_id", part))
    else:
        yield exposures.scan(["doc_id", "sequence_index"])


def _join_sql(con: duckdb.DuckDBPyConnection, digest: str) -> str:
    """Steps are intervals of sequences. Where they do not overlap, each sequence has at most one step and a
    merge finds it (``asof``); a repeated batch makes it a range join."""
    overlap = execute(
        con,
        "select coalesce(bool_or(first_sequence < ends), false) from (select first_sequence, "
        "max(first_sequence + count) over (order by first_sequence, step rows between unbounded preceding "
        "and 1 preceding) as ends from trained where digest = ?)",
        [digest],
    )[0][0]
    kind, on = (
        ("join", "p.sequence_index >= t.first_sequence and p.sequence_index < t.first_sequence + t.count")
        if overlap
        else ("asof join", "p.sequence_index >= t.first_sequence")
    )
    return (
        "insert into seen select t.step, t.attempt, t.digest, p.sequence_index, p.doc_id "
        f"from (select * from packed where digest = ?) p {kind} (select * from trained where digest = ?) t "
        f"on {on} where p.sequence_index < t.first_sequence + t.count"
    )


def distinct_ids(ids: list[bytes]) -> pa.Array:
    """A column of distinct 16-byte ids in the order of the bytes."""
    return pa.array(sorted(set(ids)), pa.binary(16))


def unique_ids(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    found = pc.unique(column)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
