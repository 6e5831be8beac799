# the names in these queries are checked or the schema's own; predicates are trees, not text
"""Evaluate the rules of a statement for every candidate: which fail, which are unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.ids import ids_from_arrow
from headwater.engine import ordered_map
from headwater.errors import ConservationError, UsageError
from headwater.sql import is_id, run
from headwater.what_if.aligned import Aligned
from headwater.what_if.plan import ALIGNED, ROW, Chain
from headwater.what_if.rules import Statement

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Table
    from headwater.what_if.rows import Rows

GROUP_RULES = 60
"""Rules in one integer of outcomes."""
CHUNK_ROWS = 1 << 19
"""Rows that are aligned and evaluated at once; about 50 MiB."""
USE = "_hw_use"
"""Column of a piece: the rows to evaluate."""

READERS = 2
"""Pieces that are read at once; a few more wait."""

Masks = npt.NDArray[np.unsignedinteger]


@dataclass
class Outcomes:
    """One bit for each rule and document, in the order of the base table's rows."""

    rules: list[str]
    failed: list[Masks]
    """By groups of 60 rules."""
    unknown: list[Masks]

    @classmethod
    def empty(cls, rules: list[str], rows: int) -> Outcomes:
        """All rules pass."""
        groups = [rules[at : at + GROUP_RULES] for at in range(0, len(rules), GROUP_RULES)]
        return cls(
            rules,
            [np.zeros(rows, dtype=_dtype(len(group))) for group in groups],
            [np.zeros(rows, dtype=_dtype(len(group))) for group in groups],
        )

    def passes(self) -> npt.NDArray[np.bool_]:
        """Documents for which every rule is true."""
        found: npt.NDArray[np.bool_] = self.failed[0] == 0
        for masks in (*self.failed[1:], *self.unknown):
            found &= masks == 0
        return found

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Rule to documents that fail it, for which it is unknown, and that it alone stands against."""
        found = {}
        for place, rule in enumerate(self.rules):
            group, bit = divmod(place, GROUP_RULES)
            flag = self.failed[group].dtype.type(1 << bit)
            failed = int(np.count_nonzero(self.failed[group] & flag))
            unknown = int(np.count_nonzero(self.unknown[group] & flag))
            only = self.failed[group] == flag
            for other, masks in enumerate((*self.failed, *self.unknown)):
                if other != group:
                    only &= masks == 0
            found[rule] = (failed, unknown, int(np.count_nonzero(only)))
        return found

    def of_row(self, row: int) -> tuple[str, ...]:
        """Rules the document fails; those that are unknown for it end in `` unknown``."""
        failed, unknown = [], []
        for place, rule in enumerate(self.rules):
            group, bit = divmod(place, GROUP_RULES)
            if int(self.failed[group][row]) >> bit & 1:
                failed.append(rule)
            if int(self.unknown[group][row]) >> bit & 1:
                unknown.append(f"{rule} unknown")
        return (*failed, *unknown)

    def set(self, rows: npt.NDArray[np.integer], masks: Sequence[npt.NDArray[np.integer]]) -> None:
        """Outcomes of some rows: failed and unknown of the first group, then of the next."""
        for group in range(len(self.failed)):
            self.failed[group][rows] = masks[2 * group]
            self.unknown[group][rows] = masks[2 * group + 1]


def rules_of(con: duckdb.DuckDBPyConnection, statement: Statement, name: str) -> list[str]:
    """The rules that the statement returns. Raises ``UsageError`` when one of its rules gets lost."""
    described = [str(row[0]) for row in run(con, f"describe ({statement.sql()})")]
    rules = [column.removeprefix("keep__") for column in described if column.startswith("keep__")]
    for rule in statement.rules():
        if rule not in rules:
            raise UsageError(
                f"rule {rule} does not reach the columns that {name} returns",
                hint="its SQL lists the columns that it hands on; add the rule in the model and build",
            )
    if not rules:
        raise UsageError(f"no rule is left in {name}", hint="drop fewer rules")
    return rules


def decide_plainly(
    con: duckdb.DuckDBPyConnection, statement: Statement, rules: list[str], base: Table, rows: Rows
) -> Outcomes:
    """Run the statement as it is written."""
    outcomes = Outcomes.empty(rules, len(rows))
    seen = np.zeros(len(rows), dtype=np.bool_)
    query = f"select doc_id::blob as doc_id, {_bits(rules)} from ({statement.sql()})"
    total = 0
    for batch in con.sql(query).to_arrow_reader(1 << 20):
        ranks = rows.ranks_of(ids_from_arrow(batch.column("doc_id")))
        total += batch.num_rows
        if (ranks < 0).any():
            raise _not_conserved(base, "has rows that are not its documents")
        at = rows.order[ranks]
        seen[at] = True
        outcomes.set(at, [column.to_numpy(zero_copy_only=False) for column in batch.columns[1:]])
    if total != len(rows) or not seen.all():
        raise _not_conserved(base, f"returns {total:,} rows for {len(rows):,} documents")
    return outcomes


def decide_aligned(
    con: duckdb.DuckDBPyConnection, chain: Chain, rules: list[str], aligned: Aligned
) -> Outcomes:
    """Run the chain over aligned columns, a piece at a time; only documents with twins are sorted."""
    rows = aligned.num_rows
    outcomes = Outcomes.empty(rules, rows)
    _create_view(con, aligned)
    whole = _query(chain.statement, rules)
    alone = _query(chain.alone, rules) if chain.alone is not None else whole
    is_alone = aligned.alone() if chain.has_windows else None
    together: list[pa.Table] = []
    ends = [(start, min(start + CHUNK_ROWS, rows)) for start in range(0, rows, CHUNK_ROWS)]
    # One more piece is read while the database works on this one.
    for (start, stop), piece in zip(
        ends, ordered_map(lambda part: aligned.columns(*part), ends, threads=READERS), strict=True
    ):
        if chain.has_windows:
            if is_alone is None:
                together.append(piece)
                continue
            mine = pa.array(is_alone[start:stop])
            together.append(piece.filter(pc.invert(mine)))
            piece = piece.append_column(USE, mine)
        _run(con, piece, alone, outcomes)
    if together:
        _run(con, pa.concat_tables(together), whole, outcomes)
    return outcomes


def _run(con: duckdb.DuckDBPyConnection, piece: pa.Table, query: str, outcomes: Outcomes) -> None:
    if not piece.num_rows:
        return
    if USE not in piece.column_names:
        piece = piece.append_column(USE, pa.repeat(True, piece.num_rows))
    con.register("_hw_piece", piece)
    try:
        for batch in con.sql(query).to_arrow_reader(1 << 20):
            rows, *masks = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            outcomes.set(rows, masks)
    finally:
        con.unregister("_hw_piece")


def _create_view(con: duckdb.DuckDBPyConnection, aligned: Aligned) -> None:
    empty = aligned.columns(0, 0)
    con.register("_hw_piece", empty.append_column(USE, pa.array([], pa.bool_())))
    shown = []
    for field in empty.schema:
        name = '"' + field.name.replace('"', '""') + '"'
        shown.append(f"{name}::uuid as {name}" if is_id(field.type) else name)
    run(con, f'create or replace view "{ALIGNED}" as select {", ".join(shown)} from _hw_piece where "{USE}"')


def _query(statement: Statement, rules: list[str]) -> str:
    return f'select "{ROW}", {_bits(rules)} from ({statement.sql()})'


def _bits(rules: list[str]) -> str:
    made = []
    for at in range(0, len(rules), GROUP_RULES):
        group = [f'"keep__{rule}"' for rule in rules[at : at + GROUP_RULES]]
        kind = _SQL_TYPES[_dtype(len(group))]
        for mark, test in (("failed", "is false"), ("unknown", "is null")):
            terms = [f"(({column} {test})::ubigint << {bit})" for bit, column in enumerate(group)]
            made.append(f"({' | '.join(terms)})::{kind} as _hw_{mark}_{at}")
    return ", ".join(made)


_SQL_TYPES: Mapping[type[np.unsignedinteger], str] = {
    np.uint8: "utinyint",
    np.uint16: "usmallint",
    np.uint32: "uinteger",
    np.uint64: "ubigint",
}


def _dtype(rules: int) -> type[np.unsignedinteger]:
    return next(kind for kind in _SQL_TYPES if rules <= 8 * np.dtype(kind).itemsize)


def _not_conserved(base: Table, what: str) -> ConservationError:
    return ConservationError(
        f"the model with these rules {what} (base table {base.ref})",
        hint="a column that is joined for a rule must come from a table with one row per document",
    )


__all__ = ["Outcomes", "decide_aligned", "decide_plainly", "rules_of"]
