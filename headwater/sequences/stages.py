"""Stages: a new order over what a run has not consumed, with the account of what it has.

What a run consumed is arithmetic: its log says which sequences each step took, the ``sequences`` version that
step read says which tokens of which documents those hold. The rest, counted in tokens of closed documents per
(document, epoch), is what a new stage packs, whatever its mixture, its length or its seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from headwater.errors import DataMismatch, UnknownName, UsageError
from headwater.lake import TableRef
from headwater.sequences.database import keep, quoted

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Lake, Table

SPAN_BATCH_ROWS = 4_096

TRAINED, SKIPPED, UNREAD = 1, 2, 0
"""Use of a sequence by a run: trained on, passed over by a step that skipped it, never reached."""

Integers = npt.NDArray[np.int64]

SPAN_ROWS = pa.schema(
    {
        "doc_id": pa.binary(16),
        "source": pa.string(),
        "epoch": pa.int32(),
        "form": pa.int8(),
        "start": pa.int32(),
        "stop": pa.int32(),
        "use": pa.int8(),
        "times": pa.int32(),
    }
)


@dataclass(frozen=True)
class PastOrder:
    """An order that a run read, and the sequences of it that its steps took: (n, 2) first and end, sorted."""

    table: Table
    trained: Integers
    skipped: Integers


@dataclass(frozen=True, kw_only=True)
class Past:
    """What a run did up to a step: its orders, the first stage first; the last is the one it stands in."""

    run_id: str
    step: int
    next_sequence: int
    orders: tuple[PastOrder, ...]
    checkpoints: tuple[int, ...]

    @property
    def table(self) -> Table:
        """The order that the run stood in."""
        return self.orders[-1].table

    @property
    def stage(self) -> int:
        """Number of the stage that it stood in."""
        return int(self.table.provenance.extra.get("stage") or 0)

    @property
    def packing_seed(self) -> int:
        """Seed that decided how documents were rearranged: parts of them go on under the same one only."""
        facts = self.orders[0].table.provenance.extra
        return int(facts.get("packing_seed", facts.get("seed", 0)))

    @property
    def control_tokens(self) -> list[str]:
        """Texts of the control tokens of its orders."""
        return [t for o in self.orders for t in o.table.provenance.extra.get("control_tokens") or ()]

    @property
    def key(self) -> str:
        """Digest of which sequences of which orders were consumed or skipped."""
        digest = xxhash.xxh3_128()
        for order in self.orders:
            digest.update(order.table.digest.encode())
            for ranges in (order.trained, order.skipped):
                digest.update(len(ranges).to_bytes(8, "little") + ranges.astype("<i8").tobytes())
        return digest.hexdigest()

    def continues(self) -> dict[str, Any]:
        """What the new order records of the one that it goes on from."""
        return {
            "run_id": self.run_id,
            **self.table.ref.to_dict(),
            "next_sequence": self.next_sequence,
            "step": self.step,
        }

    @property
    def warning(self) -> str | None:
        """Why no trainer can go on from here: weights exist at checkpoints only."""
        if self.step in self.checkpoints:
            return None
        near = sorted(self.checkpoints, key=lambda step: (abs(step - self.step), step))[:2]
        steps = " and ".join(str(step) for step in sorted(near))
        return f"run {self.run_id} has no checkpoint at step {self.step}" + (
            f" (nearest: {steps})" if near else ""
        )


def open_past(lake: Lake, after: str) -> Past:
    """What ``RUN`` or ``RUN@STEP`` consumed; without a step, up to the run's last checkpoint.

    Raises
    ------
    UnknownName
        No such run, or a step that it has not logged.
    DataMismatch
        The lake no longer holds an order that the run read.
    """
    from headwater.trace.runs import checkpoints_of, live_rows, runs_of

    run_id, wanted = _parse(after)
    run = runs_of(lake, run_id)[0]
    live = live_rows(lake, "training_steps", run_id)
    if not live.num_rows:
        raise UnknownName(
            f"run {run_id} has logged no steps", hint="a stage goes on from a step that is on record"
        )
    checkpoints = tuple(sorted({step for step, _ in checkpoints_of(lake, run_id)}))
    last = int(pc.max(live["step"]).as_py())
    step = wanted if wanted is not None else max([s for s in checkpoints if s <= last], default=last)
    if step not in set(live["step"].to_pylist()):
        raise UnknownName(f"run {run_id} has logged no step {step}", hint=f"its steps: up to {last}")
    live = live.filter(pc.less_equal(live["step"], step))
    attempts = {a.attempt: a for a in run.attempts}
    rows: dict[str, list[tuple[int, int, bool]]] = {}
    refs: dict[str, TableRef] = {}
    columns = ["attempt", "first_sequence", "count"]
    uses = live["use"].to_pylist() if "use" in live.schema.names else [None] * live.num_rows
    for (attempt, first, count), use in zip(_rows(live, columns), uses, strict=True):
        ref = attempts[attempt].table if attempt in attempts else run.attempt(attempt).table
        refs[ref.digest] = ref
        rows.setdefault(ref.digest, []).append((first, first + count, use == "skipped"))
    orders = tuple(_past_order(lake, run_id, refs[digest], found) for digest, found in rows.items())
    at = live.filter(pc.equal(live["step"], step))
    return Past(
        run_id=run_id,
        step=step,
        next_sequence=max(first + count for _, first, count in _rows(at, columns)),
        orders=orders,
        checkpoints=checkpoints,
    )


def _parse(after: str) -> tuple[str, int | None]:
    run_id, at, step = after.rpartition("@")
    if not at:
        return after, None
    if not run_id or not step.isdigit():
        raise UsageError(f"got {after!r} to go on after", hint="write RUN or RUN@STEP: pretrain-1@2000")
    return run_id, int(step)


def _rows(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in columns), strict=True)


def _past_order(lake: Lake, run_id: str, ref: TableRef, rows: list[tuple[int, int, bool]]) -> PastOrder:
    table = lake.table(ref.name, version=ref.version)
    if table.digest != ref.digest:
        raise DataMismatch(
            f"run {run_id} read {ref} with digest {ref.digest}, the lake holds {table.digest}",
            hint="the table was dropped and made anew; what the run consumed can no longer be known",
        )
    parts = [
        np.array(sorted((a, b) for a, b, skipped in rows if skipped is which), np.int64).reshape(-1, 2)
        for which in (False, True)
    ]
    return PastOrder(table, *parts)


def check_encoder(past: Past, tokenizer_id: str) -> None:
    """Raise ``DataMismatch`` unless the stage is packed with the run's own tokenizer."""
    had = past.table.provenance.extra.get("tokenizer_id")
    if had != tokenizer_id:
        raise DataMismatch(
            f"run {past.run_id} was trained with tokenizer {had}, "
            f"the stage would be packed with {tokenizer_id}",
            hint="leave the tokenizer out to keep the run's own; control and fill-in-the-middle tokens must "
            "be in it from the first stage on",
        )


# -- what was consumed, in DuckDB -----------------------------------------------------------------


def load_consumed(
    con: duckdb.DuckDBPyConnection, lake: Lake, past: Past | None, control_ids: Mapping[str, int]
) -> None:
    """Make ``consumed`` and ``consumed_sums`` from what a run trained on.

    ``consumed``: doc_id, epoch, form, control, start, stop: intervals that neither meet nor overlap.
    ``consumed_sums``: doc_id, epoch, form, control, tokens, and ``closed``, the length of a document that was
    rearranged, which its tokens do not tell (its parts were encoded anew), else null. ``past_spans``: the
    spans of the orders, with the order's number and the use that was made of them (of orders before the last
    those that were used, and all of rearranged documents).
    """
    con.execute(
        "create or replace table past_spans (number int, doc_id uuid, source varchar, epoch int, "
        "form tinyint, start int, stop int, use tinyint, times int)"
    ).fetchall()
    con.execute("create or replace table past_controls (number int, doc_id uuid, control int)").fetchall()
    orders = past.orders if past is not None else ()
    for number, order in enumerate(orders):
        con.register("spans", span_rows(order, everything=number == len(orders) - 1))
        con.execute(
            f"insert into past_spans select {number}, doc_id::uuid, * exclude (doc_id) from spans"
        ).fetchall()
        con.unregister("spans")
    if past is not None:
        _load_controls(con, lake, past, control_ids)
    keep(con, "consumed_intervals", merged("select * from past_spans where use = 1"))
    keep(
        con,
        "consumed",
        """select c.*, coalesce(k.control, -1) as control from consumed_intervals c
           left join (select doc_id, epoch, min(number) as number from past_spans where use = 1
                      group by doc_id, epoch) f using (doc_id, epoch)
           left join past_controls k on k.number = f.number and k.doc_id = c.doc_id""",
    )
    keep(
        con,
        "consumed_sums",
        """select c.*, e.closed from (
               select doc_id, epoch, any_value(form) as form, any_value(control) as control,
                      sum(stop - start)::bigint as tokens from consumed group by doc_id, epoch) c
           left join (select doc_id, epoch, max(stop) as closed from past_spans where form > 0
                      group by doc_id, epoch) e using (doc_id, epoch)""",
    )


def _load_controls(con: duckdb.DuckDBPyConnection, lake: Lake, past: Past, ids: Mapping[str, int]) -> None:
    """``past_controls``: which control token opened each document, as the tables of the past orders say."""
    for number, order in enumerate(past.orders):
        facts = order.table.provenance.extra
        column = facts.get("control")
        if not column:
            continue
        ref = facts["packed_table"]
        table = lake.table(ref["table"], version=int(ref["version"]))
        known = pa.table(
            {"text": pa.array(list(ids), pa.string()), "id": pa.array(list(ids.values()), pa.int32())}
        )
        con.register("given", table.scan(["doc_id", column]))
        con.register("ids", known)
        con.execute(
            f"insert into past_controls select {number}, doc_id::uuid, i.id from given "
            f"join ids i on i.text = given.{quoted(column)}"
        ).fetchall()
        con.unregister("given")
        con.unregister("ids")


def merged(spans: str) -> str:
    """The query that unites the intervals of ``spans`` (doc_id, epoch, form, start, stop) where they meet."""
    over = "(partition by doc_id, epoch order by start, stop rows"
    return f"""
        select doc_id, epoch, form, min(start) as start, max(stop) as stop from (
            select *, sum(fresh) over {over} unbounded preceding) as island from (
                select *, (start > coalesce(max(stop) over {over}
                    between unbounded preceding and 1 preceding), -1))::int as fresh
                from ({spans})))
        group by doc_id, epoch, form, island
    """


def span_rows(order: PastOrder, *, everything: bool) -> pa.RecordBatchReader:
    """Spans of an order with the use of their sequence; those that no step took where ``everything``."""

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in order.table.scan(["sequence_index", "spans"], batch_rows=SPAN_BATCH_ROWS):
            flat = _flat(batch, *_use_of(batch["sequence_index"].to_numpy(), order))
            used = pc.or_(pc.not_equal(flat["use"], UNREAD), pc.greater(flat["form"], 0))
            yield flat if everything else flat.filter(used)

    return pa.RecordBatchReader.from_batches(SPAN_ROWS, batches())


def _flat(batch: pa.RecordBatch, use: npt.NDArray[np.int8], times: npt.NDArray[np.int32]) -> pa.RecordBatch:
    spans = batch["spans"]
    counts = pc.list_value_length(spans).to_numpy()
    flat = spans.flatten()
    names = {flat.type.field(i).name for i in range(flat.type.num_fields)}
    zeros = pa.array(np.zeros(len(flat), np.int32))
    start = flat.field("start")
    return pa.record_batch(
        [
            flat.field("doc_id"),
            flat.field("source"),
            flat.field("epoch") if "epoch" in names else zeros,
            flat.field("form") if "form" in names else zeros.cast(pa.int8()),
            start,
            pc.add(start, flat.field("length")),
            pa.array(np.repeat(use, counts)),
            pa.array(np.repeat(times, counts)),
        ],
        schema=SPAN_ROWS,
    )


def _use_of(index: Integers, order: PastOrder) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """The use of each sequence, and how often it was trained on."""
    times = _times(index, order.trained)
    use = np.full(len(index), UNREAD, np.int8)
    use[_times(index, order.skipped) > 0] = SKIPPED
    use[times > 0] = TRAINED
    return use, times


def _times(index: Integers, ranges: Integers) -> npt.NDArray[np.int32]:
    begun = np.searchsorted(np.sort(ranges[:, 0]), index, side="right")
    ended = np.searchsorted(np.sort(ranges[:, 1]), index, side="right")
    return (begun - ended).astype(np.int32)


def past_facts(past: Past | None) -> str:
    """The past as part of a fingerprint."""
    return json.dumps([past.run_id, past.step, past.next_sequence, past.key]) if past is not None else ""
