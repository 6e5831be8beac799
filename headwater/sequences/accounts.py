"""The account of a stage: of every source, what was consumed and what became of the rest, to the token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.lake import Provenance
from headwater.sequences.database import database, keep
from headwater.sequences.stages import PastOrder, load_consumed, merged, span_rows

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Lake, Table
    from headwater.sequences.stages import Past

TABLE = "stage_accounts"

_FACTS = {
    "run_id": pa.string(),
    "step": pa.int64(),
    "stage": pa.int64(),
    "continues_table": pa.string(),
    "continues_digest": pa.string(),
    "table": pa.string(),
    "digest": pa.string(),
}
_COUNTS = {
    "consumed_documents": pa.int64(),
    "consumed_tokens": pa.int64(),
    "repeated_tokens": pa.int64(),
    "skipped_tokens": pa.int64(),
    "left_tokens": pa.int64(),
    "new_documents": pa.int64(),
    "new_tokens": pa.int64(),
    "gone_documents": pa.int64(),
    "gone_tokens": pa.int64(),
    "not_drawn_tokens": pa.int64(),
    "order_tokens": pa.int64(),
}
STAGE_ACCOUNTS = pa.schema({**_FACTS, "source": pa.string(), **_COUNTS, "at": pa.timestamp("us", tz="UTC")})
"""Columns of ``stage_accounts``: a row per stage and source; ``digest`` is that of the stage's order."""


@dataclass(frozen=True, kw_only=True)
class SourceAccount:
    """Tokens of one source, closed documents' tokens counted.

    consumed: trained on so far, in all stages of the run; each position of each epoch once.
    repeated: trained on beyond that, by steps that took the same sequences again.
    skipped: in steps that passed them over, and not trained on since (they are part of the rest).
    left: of what the former order still held, what the new order holds.
    new: what the new order holds and the former one did not: new documents, further epochs.
    gone: of what the former order still held, that of documents which are no longer in the table.
    not_drawn: the remainder of it: held out now, or beyond a quota or limit.
    """

    source: str
    consumed_documents: int
    consumed_tokens: int
    repeated_tokens: int
    skipped_tokens: int
    left_tokens: int
    new_documents: int
    new_tokens: int
    gone_documents: int
    gone_tokens: int
    not_drawn_tokens: int
    order_tokens: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def total(cls, rows: Sequence[SourceAccount]) -> SourceAccount:
        """The sums over sources; a document has one source."""
        return cls(source="", **{name: sum(getattr(row, name) for row in rows) for name in _COUNTS})


def account_of(lake: Lake, past: Past, packed: Table, sequences: Table) -> list[SourceAccount]:
    """The account of the stage ``sequences``, packed from ``packed``; from the lake where it stands there.

    Otherwise it is counted, and a row per source appended to ``stage_accounts``.
    """
    known = _known(lake, past, sequences)
    if known:
        return known
    found = _counted(lake, past, packed, sequences)
    facts = {
        "run_id": past.run_id,
        "step": past.step,
        "stage": past.stage + 1,
        "continues_table": str(past.table.ref),
        "continues_digest": past.table.digest,
        "table": str(sequences.ref),
        "digest": sequences.digest,
        "at": datetime.now(UTC),
    }
    rows = pa.Table.from_pylist([{**facts, **row.to_json()} for row in found], schema=STAGE_ACCOUNTS)
    lake.write(f"{lake.schema}.{TABLE}", rows, mode="append", provenance=Provenance(kind="log"))
    return found


def _known(lake: Lake, past: Past, sequences: Table) -> list[SourceAccount]:
    name = f"{lake.schema}.{TABLE}"
    if not lake.exists(name):
        return []
    rows = lake.table(name).to_arrow().to_pylist()
    own = {"run_id": past.run_id, "step": past.step, "table": str(sequences.ref), "digest": sequences.digest}
    mine = [row for row in rows if all(row[key] == value for key, value in own.items())]
    fields = ["source", *_COUNTS]
    return [SourceAccount(**{key: row[key] for key in fields}) for row in mine]


def _counted(lake: Lake, past: Past, packed: Table, sequences: Table) -> list[SourceAccount]:
    none = np.empty((0, 2), np.int64)
    with database() as con:
        load_consumed(con, lake, past, {})
        keep(
            con,
            "new_spans",
            "select doc_id::uuid as doc_id, * exclude (doc_id) from given",
            given=span_rows(PastOrder(sequences, none, none), everything=True),
        )
        keep(
            con, "listed", "select distinct doc_id::uuid as doc_id from given", given=packed.scan(["doc_id"])
        )
        last = len(past.orders) - 1
        keep(con, "fresh", merged("select * from new_spans"))
        keep(con, "rest", merged(f"select * from past_spans where number = {last} and use <> 1"))
        keep(con, "skipped", merged("select * from past_spans where use = 2"))
        keep(
            con,
            "named",
            "select doc_id, coalesce(n.source, p.source) as source, p.doc_id is not null as is_past from "
            "(select doc_id, any_value(source) as source from new_spans group by doc_id) n full join "
            "(select doc_id, arg_max(source, number) as source from past_spans group by doc_id) p "
            "using (doc_id)",
        )
        return _by_source(con)


def _tokens(table: str) -> str:
    return f"select doc_id, sum(stop - start)::bigint as tokens from {table} group by doc_id"


def _shared(a: str, b: str) -> str:
    return (
        f"select a.doc_id, sum(least(a.stop, b.stop) - greatest(a.start, b.start))::bigint as tokens "
        f"from {a} a join {b} b on a.doc_id = b.doc_id and a.epoch = b.epoch "
        f"and a.start < b.stop and b.start < a.stop group by a.doc_id"
    )


def _by_source(con: duckdb.DuckDBPyConnection) -> list[SourceAccount]:
    rows = con.execute(
        f"""with per_document as (
            select n.source, n.is_past, n.doc_id in (select doc_id from listed) as is_listed,
                   coalesce(c.tokens, 0) as consumed, coalesce(t.tokens, 0) as trained,
                   coalesce(k.tokens, 0) - coalesce(ks.tokens, 0) as skipped,
                   coalesce(r.tokens, 0) as rest, coalesce(l.tokens, 0) as kept,
                   coalesce(f.tokens, 0) as fresh
            from named n
            left join ({_tokens("consumed")}) c using (doc_id)
            left join (select doc_id, sum((stop - start)::bigint * times)::bigint as tokens
                       from past_spans where use = 1 group by doc_id) t using (doc_id)
            left join ({_tokens("skipped")}) k using (doc_id)
            left join ({_shared("skipped", "consumed")}) ks using (doc_id)
            left join ({_tokens("rest")}) r using (doc_id)
            left join ({_shared("rest", "fresh")}) l using (doc_id)
            left join ({_tokens("fresh")}) f using (doc_id)
        )
        select coalesce(source, '') as source, count(*) filter (consumed > 0), sum(consumed),
               sum(trained - consumed), sum(skipped), sum(kept),
               count(*) filter (fresh > 0 and not is_past), sum(fresh - kept),
               count(*) filter (rest > 0 and not is_listed), coalesce(sum(rest) filter (not is_listed), 0),
               coalesce(sum(rest - kept) filter (is_listed), 0), sum(fresh)
        from per_document group by 1 order by 1"""
    ).fetchall()
    return [
        SourceAccount(**dict(zip(["source", *_COUNTS], [source, *map(int, counts)], strict=True)))
        for source, *counts in rows
    ]
