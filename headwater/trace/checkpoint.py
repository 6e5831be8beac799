# the names in these queries are ours; every value is a parameter
"""What a checkpoint saw: steps, sequences, tokens by source, documents, tables and their approvals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.errors import UnknownName, UsageError
from headwater.report.narrow import connection, one, rows
from headwater.sql import run as execute
from headwater.trace.approvals import approval_facts
from headwater.trace.orders import FLAT, flat_spans, open_order
from headwater.trace.runs import live_rows, runs_of, trained_steps
from headwater.trace.seen import asked

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Lake
    from headwater.lake.provenance import TableRef
    from headwater.trace.runs import Run

MAX_IDS = 1_000_000
"""Document ids that an answer spells out: 32 MB of hex."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a checkpoint read of one order."""

    table: str
    digest: str
    packed_table: str
    """The curated table (or mixture) behind it, ``name@version``."""
    packed_digest: str
    steps: int
    first_step: int
    last_step: int
    sequences: int
    """Every reading counted."""
    first_sequence: int
    last_sequence: int
    tokens: int
    bypass: str | None
    """What the run recorded of a missing approval; ``None``: it read approved data."""
    approval: dict[str, Any]
    packed_approval: dict[str, Any]
    """``standing`` and ``revoked``, as they are now: of the order, and of the table behind it."""


@dataclass(frozen=True, kw_only=True)
class CheckpointTrace:
    """Everything a checkpoint saw. Tokens are those of documents, closed by their end-of-text token."""

    run_id: str
    attempt: int
    step: int
    path: str
    stands: bool
    """False when a later attempt of the run went back behind it."""
    steps: int
    skipped_steps: int
    sequences: int
    tokens: int
    tokens_by_source: dict[str, int]
    tokens_by_epoch: dict[int, int]
    """Tokens read on the first pass over their document (0), on the second, and so on."""
    tokens_by_form: dict[str, int]
    documents: int
    stages: tuple[Stage, ...]
    evaluations: tuple[dict[str, Any], ...]
    """The latest figures by then, one for each table that was evaluated."""
    document_ids: tuple[str, ...] | None = None
    """Every document, where asked for and no more than ``MAX_IDS``."""

    @property
    def revoked(self) -> tuple[str, ...]:
        """Tables whose approval was revoked since."""
        pairs = [
            pair for s in self.stages for pair in ((s.table, s.approval), (s.packed_table, s.packed_approval))
        ]
        return tuple(dict.fromkeys(name for name, approval in pairs if approval["revoked"]))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "revoked": self.revoked}


@dataclass(frozen=True, kw_only=True)
class Place:
    """One row of the log: a checkpoint of an attempt."""

    run: Run
    attempt: int
    step: int
    path: str
    stands: bool


def find_checkpoint(lake: Lake, name: str, run_id: str | None = None) -> Place:
    """The checkpoint that ``name`` means: ``RUN@STEP``, ``RUN@last``, or a path that ends in ``RUN/step-N``.

    Raises
    ------
    UnknownName
        The log has no such run or checkpoint.
    UsageError
        ``name`` is neither.
    """
    wanted, step = _parse(name, run_id)
    run = runs_of(lake, wanted)[-1]
    logged = lake.table("checkpoints").to_arrow().to_pylist() if lake.exists("checkpoints") else []
    logged = [row for row in logged if row["run_id"] == run.run_id]
    if step is None and logged:
        step = max(row["step"] for row in live_rows(lake, "checkpoints", run.run_id).to_pylist() or logged)
    found = [row for row in logged if row["step"] == step]
    if not found:
        raise UnknownName.of("checkpoint", name, sorted({f"{run.run_id}@{row['step']}" for row in logged}))
    row = max(found, key=lambda r: r["attempt"])
    later = [a for a in run.attempts if a.attempt > row["attempt"] and a.start_step < row["step"]]
    return Place(run=run, attempt=row["attempt"], step=row["step"], path=row["path"], stands=not later)


def _parse(name: str, run_id: str | None) -> tuple[str | None, int | None]:
    run, at, step = name.strip().rpartition("@")
    if at and (step.isdigit() or step == "last"):
        return run or run_id, int(step) if step.isdigit() else None
    parts = Path(name.strip()).parts
    folder = re.fullmatch(r"step-0*(\d+)", parts[-1]) if parts else None
    if folder is None:
        raise UsageError(
            f"{name!r} does not name a checkpoint", hint="write RUN@STEP, RUN@last, or its path, RUN/step-N"
        )
    step_number = int(folder[1])
    return (parts[-2] if len(parts) > 1 else run_id), step_number


def trace_checkpoint(
    lake: Lake, name: str, run_id: str | None = None, *, with_ids: bool = False
) -> CheckpointTrace:
    """What the checkpoint saw, from fresh weights on.

    Parameters
    ----------
    with_ids: also every document's id, up to ``MAX_IDS``.
    """
    place = find_checkpoint(lake, name, run_id)
    run, limits = place.run, {"upto_attempt": place.attempt, "upto_step": place.step}
    steps = trained_steps(lake, run, **limits)
    logged = live_rows(lake, "training_steps", run.run_id, upto_attempt=place.attempt)
    num_logged = sum(step <= place.step for step in set(logged["step"].to_pylist()))
    with connection() as con:
        con.register("_steps", steps)
        execute(con, "create temp table trained as select * from _steps")
        execute(
            con,
            "create temp table parts (digest varchar, doc_id blob, source varchar, epoch int, form int, "
            "tokens bigint)",
        )
        read = {ref.digest: ref for ref in run.tables if ref.digest in set(steps["digest"].to_pylist())}
        for ref in read.values():
            _read(con, lake, ref, run)
        ids = None
        num_documents = int(one(con, "select count(distinct doc_id) from parts")[0])
        if with_ids and num_documents <= MAX_IDS:
            query = "select distinct lower(hex(doc_id)) as id from parts order by 1"
            ids = tuple(con.sql(query).to_arrow_table()["id"].to_pylist())
        numbers = "from parts group by 1 order by 2 desc, 1"
        num_trained = int(one(con, "select count(distinct step) from trained")[0])
        return CheckpointTrace(
            run_id=run.run_id,
            attempt=place.attempt,
            step=place.step,
            path=place.path,
            stands=place.stands,
            steps=num_trained,
            skipped_steps=num_logged - num_trained,
            sequences=int(one(con, 'select coalesce(sum("count"), 0)::bigint from trained')[0]),
            tokens=int(one(con, "select coalesce(sum(tokens), 0)::bigint from parts")[0]),
            tokens_by_source=dict(execute(con, f"select source, sum(tokens)::bigint {numbers}")),
            tokens_by_epoch=dict(
                execute(con, "select epoch, sum(tokens)::bigint from parts group by 1 order by 1")
            ),
            tokens_by_form=dict(
                execute(
                    con,
                    "select case form when 0 then 'plain' when 1 then 'PSM' else 'SPM' end, "
                    f"sum(tokens)::bigint {numbers}",
                )
            ),
            documents=num_documents,
            stages=tuple(_stage(con, lake, ref, run) for ref in read.values()),
            evaluations=tuple(_evaluations(lake, place)),
            document_ids=ids,
        )


def saw(lake: Lake, name: str, ids: pa.Array, run_id: str | None = None) -> dict[str, Any]:
    """Whether a checkpoint saw any of ``ids``, and which, in which steps."""
    place = find_checkpoint(lake, name, run_id)
    orders = {ref.digest: open_order(lake, ref, run_id=place.run.run_id) for ref in place.run.tables}
    with asked(lake, orders, ids) as found:
        found.join(place.run, upto_attempt=place.attempt, upto_step=place.step)
        found.load_parts()
        seen = rows(found.con, "select lower(hex(doc_id)) as id, tokens from parts order by 1")
        steps = found.steps()
    return {
        "run_id": place.run.run_id,
        "step": place.step,
        "path": place.path,
        "saw": bool(seen),
        "asked": len(ids),
        "documents": len(seen),
        "tokens": sum(row["tokens"] for row in seen),
        "steps": list(steps),
        "document_ids": [row["id"] for row in seen[:MAX_IDS]],
    }


def _read(con: duckdb.DuckDBPyConnection, lake: Lake, ref: TableRef, run: Run) -> None:
    """Sum the spans of what was read of one order into ``parts``; a repeated sequence counts again."""
    order = open_order(lake, ref, run_id=run.run_id)
    query = 'select first_sequence, "count" from trained where digest = ? order by all'
    found = con.execute(query, [ref.digest]).fetchnumpy()
    firsts, counts = (np.asarray(found[name], dtype=np.int64) for name in ("first_sequence", "count"))
    for first, stop, times in intervals(firsts, firsts + counts):
        con.register("_spans", pa.RecordBatchReader.from_batches(FLAT, flat_spans(order, first, stop)))
        execute(
            con,
            "insert into parts select ?, doc_id, coalesce(source, '(none)'), epoch, form, "
            "sum(length)::bigint * ? from _spans group by all",
            [ref.digest, times],
        )
        con.unregister("_spans")


def intervals(firsts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """``(first, stop, times)``: disjoint intervals of what ``[firsts, stops)`` cover, and how many times."""
    places = np.concatenate([firsts, stops])
    change = np.concatenate([np.ones(len(firsts), np.int64), -np.ones(len(stops), np.int64)])
    borders, where = np.unique(places, return_inverse=True)
    if not len(borders):
        return
    times = np.cumsum(np.bincount(where, weights=change).astype(np.int64))
    # A border where the number does not change is where one step ends and the next begins.
    keep = np.diff(times, prepend=0) != 0
    borders, times = borders[keep], times[keep]
    for i in range(len(borders) - 1):
        if times[i]:
            yield int(borders[i]), int(borders[i + 1]), int(times[i])


def _stage(con: duckdb.DuckDBPyConnection, lake: Lake, ref: TableRef, run: Run) -> Stage:
    from headwater.lake.provenance import TableRef as Ref

    query = (
        'select count(distinct step), min(step), max(step), sum("count")::bigint, min(first_sequence), '
        'max(first_sequence + "count") - 1, '
        "(select coalesce(sum(tokens), 0)::bigint from parts where digest = $1) "
        "from trained where digest = $1"
    )
    number, first, last, sequences, low, high, tokens = execute(con, query, [ref.digest])[0]
    facts = lake.table(ref.name, version=ref.version).provenance.extra.get("packed_table")
    packed = Ref.from_dict(facts) if facts else None
    bypass = [a.bypass for a in run.attempts if a.table == ref and a.bypass]
    return Stage(
        table=str(ref),
        digest=ref.digest,
        packed_table=str(packed) if packed else "",
        packed_digest=packed.digest if packed else "",
        steps=number,
        first_step=first,
        last_step=last,
        sequences=sequences,
        first_sequence=low,
        last_sequence=high,
        tokens=tokens,
        bypass=bypass[0] if bypass else None,
        approval=approval_facts(lake, ref),
        packed_approval=approval_facts(lake, packed) if packed else {"standing": None, "revoked": None},
    )


def _evaluations(lake: Lake, place: Place) -> list[dict[str, Any]]:
    live = live_rows(lake, "evaluations", place.run.run_id, upto_attempt=place.attempt)
    latest: dict[str, dict[str, Any]] = {}
    for row in live.to_pylist():
        if row["step"] <= place.step:
            latest[row["table"]] = {k: v for k, v in row.items() if k not in ("run_id", "at")}
    return [latest[table] for table in sorted(latest)]
