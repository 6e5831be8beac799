# the names in these queries are ours; every value is a parameter
"""Training runs as their log tells them: attempts, and which logged rows still stand.

A resumed run is a new attempt, and each attempt names the version it read: a new stage is an attempt over
another ``sequences``. What a later attempt went back behind does not count, for no weights came of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from headwater.errors import UnknownName
from headwater.lake.provenance import TableRef

if TYPE_CHECKING:
    from headwater.lake import Lake

SKIPPED = "skipped"
"""``use`` of a logged step whose sequences were passed over: nothing was learned from them."""

_LIVE = """
    select noted.* from (select distinct * from entries where run_id = $run and attempt <= $upto) noted
    where not exists (
        select 1 from runs later where later.run_id = $run and later.attempt <= $upto
        and later.attempt > noted.attempt and later.start_step < noted.step)
    order by noted.step
"""
"""What of a log still stands: each row once, and nothing that a later attempt began before."""

_ALL = 2**62


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One start of a run: the version it read, on how many processes, and from which step on."""

    attempt: int
    start_step: int
    table: TableRef
    world_size: int
    bypass: str | None
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run and its attempts, in the order they were started."""

    run_id: str
    attempts: tuple[Attempt, ...]

    @property
    def tables(self) -> tuple[TableRef, ...]:
        """What it read, each version once: more than one where the run went through stages."""
        return tuple(dict.fromkeys(attempt.table for attempt in self.attempts))

    def attempt(self, number: int) -> Attempt:
        """Raises ``UnknownName`` for a step whose attempt is not on record."""
        found = next((a for a in self.attempts if a.attempt == number), None)
        if found is None:
            known = [a.attempt for a in self.attempts]
            raise UnknownName.of("attempt", number, known, where=f"run {self.run_id}")
        return found


def runs_of(lake: Lake, run_id: str | None = None) -> list[Run]:
    """Every run of the lake's schema (or the one), in the order they began.

    Raises
    ------
    UnknownName
        No run is on record, or none of this id.
    """
    if not lake.exists("training_runs"):
        raise UnknownName("no training run is on record in this lake", hint="train first: trainer/train.py")
    columns = ["run_id", "attempt", "start_step", "table", "version", "digest", "world_size", "bypass",
               "started_at"]  # fmt: skip
    table = lake.table("training_runs")
    known = [column for column in columns if column in table.schema.names]
    found: dict[str, dict[int, Attempt]] = {}
    for row in sorted(table.to_arrow(known).to_pylist(), key=lambda r: (r["started_at"], r["attempt"])):
        attempt = Attempt(
            attempt=row["attempt"],
            start_step=row["start_step"] or 0,
            table=TableRef(name=row["table"], version=row["version"], digest=row["digest"]),
            world_size=row.get("world_size") or 1,
            bypass=row.get("bypass"),
            started_at=row["started_at"],
        )
        found.setdefault(row["run_id"], {}).setdefault(attempt.attempt, attempt)
    runs = [
        Run(run_id=name, attempts=tuple(sorted(attempts.values(), key=lambda a: a.attempt)))
        for name, attempts in found.items()
    ]
    if run_id is None:
        return runs
    if run_id not in found:
        raise UnknownName.of("run", run_id, found)
    return [run for run in runs if run.run_id == run_id]


def live_rows(lake: Lake, table: str, run_id: str, *, upto_attempt: int | None = None) -> pa.Table:
    """The rows a run logged into ``table``, each once, less those a later attempt went back behind.

    With ``upto_attempt`` later attempts are left out of account: the log as it stood in that one.
    """
    if not lake.exists(table):
        return pa.table({"step": pa.array([], pa.int64())})
    con = duckdb.connect(":memory:")
    try:
        con.register("entries", lake.table(table).scan())
        con.register("runs", lake.table("training_runs").scan(["run_id", "attempt", "start_step"]))
        upto = _ALL if upto_attempt is None else upto_attempt
        return con.sql(_LIVE, params={"run": run_id, "upto": upto}).to_arrow_table()
    finally:
        con.close()


def trained_steps(
    lake: Lake, run: Run, *, upto_attempt: int | None = None, upto_step: int | None = None
) -> pa.Table:
    """The steps that weights came of, without skipped ones, in order.

    Columns: ``attempt``, ``step``, ``first_sequence``, ``count``, ``tokens``, ``tokens_per_second`` (null
    where it was not logged), ``digest`` (of the version the step's attempt read), ``world_size``.
    """
    live = live_rows(lake, "training_steps", run.run_id, upto_attempt=upto_attempt)
    con = duckdb.connect(":memory:")
    try:
        con.register("live", filled(live, dict(_STEP_COLUMNS)))
        con.register("attempts", _attempts(run.attempts))
        return con.sql(
            f"""
            select l.attempt, step, first_sequence, count, coalesce(tokens, 0) as tokens, tokens_per_second,
                   a.digest, a.world_size
            from live l join attempts a on a.attempt = l.attempt
            where coalesce("use", 'trained') <> '{SKIPPED}' and step <= $upto order by step, first_sequence
            """,
            params={"upto": _ALL if upto_step is None else upto_step},
        ).to_arrow_table()
    finally:
        con.close()


_STEP_COLUMNS = (
    ("attempt", pa.int64()),
    ("step", pa.int64()),
    ("first_sequence", pa.int64()),
    ("count", pa.int64()),
    ("tokens", pa.int64()),
    ("tokens_per_second", pa.float64()),
    ("use", pa.string()),
)


def filled(table: pa.Table, columns: dict[str, pa.DataType]) -> pa.Table:
    """``columns`` of the table, null where an older lake does not have one."""
    return pa.table(
        {
            name: table[name].cast(kind) if name in table.schema.names else pa.nulls(table.num_rows, kind)
            for name, kind in columns.items()
        }
    )


def _attempts(attempts: Sequence[Attempt]) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {"attempt": a.attempt, "digest": a.table.digest, "world_size": a.world_size} for a in attempts
    ]
    kinds = {"attempt": pa.int64(), "digest": pa.string(), "world_size": pa.int64()}
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))


def checkpoints_of(
    lake: Lake, run_id: str, *, upto_attempt: int | None = None
) -> tuple[tuple[int, str], ...]:
    """``(step, path)`` of the checkpoints that still stand, in order; the path as the log has it."""
    live = live_rows(lake, "checkpoints", run_id, upto_attempt=upto_attempt)
    if "path" not in live.schema.names:
        return ()
    pairs = zip(live["step"].to_pylist(), live["path"].to_pylist(), strict=True)
    return tuple(dict.fromkeys((int(step), str(path)) for step, path in pairs))


def config_of(lake: Lake, run_id: str) -> tuple[str, dict[str, Any]]:
    """The recipe's name and the settings of the run's latest attempt."""
    columns = ["run_id", "attempt", "recipe", "config"]
    rows = [
        row for row in lake.table("training_runs").to_arrow(columns).to_pylist() if row["run_id"] == run_id
    ]
    last = max(rows, key=lambda row: row["attempt"])
    return str(last["recipe"] or ""), json.loads(last["config"] or "{}")
