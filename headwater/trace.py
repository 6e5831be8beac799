"""Which documents a training step saw, and which steps and checkpoints saw a document (contract C6).

Both answers join three records: the run's log (each step's ``first_sequence`` and ``count``), the
``sequences`` version the run read, and ``exposures``. A resumed run is a new attempt: steps and
checkpoints that a later attempt went back behind do not count, for no weights came of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import DataMismatch, HeadwaterError, UnknownName, UsageError
from headwater.lake.table import in_list
from headwater.sequences.packing import exposures_of

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

SPAN_BATCH_ROWS = 4_096

_LIVE = """
    select noted.* from (select distinct on (attempt, step) * from entries where run_id = $run) noted
    where not exists (
        select 1 from runs later where later.run_id = $run
        and later.attempt > noted.attempt and later.start_step < noted.step)
    order by noted.step
"""
"""What of a log still stands: each row once, and nothing that a later attempt began before."""


@dataclass(frozen=True, kw_only=True)
class StepTrace:
    """The documents of one step, a row per span in the order of training.

    ``documents`` columns: ``sequence_index``, ``doc_id`` (hex), ``source``, ``path`` (null where the table
    has none), ``start`` and ``tokens`` (of the document), ``share`` (of the step's tokens, sums to 1).
    """

    run_id: str
    attempt: int
    step: int
    table: str
    first_sequence: int
    count: int
    loss: float
    tokens: int
    documents: pa.Table

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The documents as a list of dicts: a step holds few."""
        return list(self.documents.to_pylist())

    def to_json(self) -> dict[str, Any]:
        """The trace as plain data."""
        facts = {k: getattr(self, k) for k in self.__dataclass_fields__ if k != "documents"}
        return {**facts, "documents": self.rows}


@dataclass(frozen=True, kw_only=True)
class RunExposure:
    """What one run saw of a document.

    ``steps`` are those that hold some of it; ``checkpoints_that_saw_it`` the checkpoints written at or
    after the first of them, as ``(step, path)``; ``last_clean_checkpoint`` the last one before.
    """

    run_id: str
    table: str
    sequences: tuple[int, ...]
    steps: tuple[int, ...]
    last_step: int
    checkpoints_that_saw_it: tuple[tuple[int, str], ...]
    last_clean_checkpoint: tuple[int, str] | None

    @property
    def first_exposure(self) -> int | None:
        return self.steps[0] if self.steps else None

    @property
    def last_exposure(self) -> int | None:
        return self.steps[-1] if self.steps else None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "first_exposure": self.first_exposure, "last_exposure": self.last_exposure}


@dataclass(frozen=True, kw_only=True)
class DocumentTrace:
    """A document's way through training: its sequences in the latest order, and each run."""

    doc_id: str
    source: str | None
    path: str | None
    table: str | None
    sequences: tuple[int, ...]
    runs: tuple[RunExposure, ...] = ()
    untraceable: tuple[str, ...] = ()
    """Runs whose sequences the lake no longer holds."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [run.to_json() for run in self.runs]

    def to_json(self) -> dict[str, Any]:
        """The trace as plain data."""
        return {**asdict(self), "runs": self.rows}


def trace_step(lake: Lake, step: int, run_id: str | None = None) -> StepTrace:
    """The documents that ``step`` of a run saw (the latest run, unless ``run_id`` names one).

    Raises
    ------
    UnknownName
        No such run, or it has not logged this step.
    """
    run = _runs(lake, run_id)[-1]
    live = live_rows(lake, "training_steps", run["run_id"])
    found = live.filter(pc.field("step") == step).to_pylist()
    if not found:
        known = f"{live['step'][0]} to {live['step'][-1]}" if live.num_rows else "none yet"
        raise UnknownName(f"run {run['run_id']} has logged no step {step}", hint=f"its steps: {known}")
    facts = found[0]
    sequences = _sequences_of(lake, run)
    rows = range(facts["first_sequence"], facts["first_sequence"] + facts["count"])
    taken = sequences.dataset.take(list(rows), columns=["sequence_index", "spans"])
    return StepTrace(
        run_id=run["run_id"],
        attempt=facts["attempt"],
        step=step,
        table=str(sequences.ref),
        first_sequence=facts["first_sequence"],
        count=facts["count"],
        loss=facts["loss"],
        tokens=facts["tokens"],
        documents=_documents(lake, sequences, taken),
    )


def trace_document(lake: Lake, doc_id: str, run_id: str | None = None) -> DocumentTrace:
    """The sequences, steps and checkpoints that hold some of a document, for every run or for one.

    Parameters
    ----------
    doc_id:
        32 hex digits (dashes are ignored), or the first few when no other document begins so.

    Raises
    ------
    UnknownName, UsageError
        No packed document begins with ``doc_id``, or several do.
    """
    runs = _runs(lake, run_id) if run_id or lake.exists("training_runs") else []
    orders, untraceable = _orders(lake, runs, strict=run_id is not None)
    runs = [run for run in runs if run["run_id"] not in untraceable]
    latest = lake.table("sequences") if lake.exists("sequences") else None
    if latest is not None:
        orders[latest.digest] = latest
    low, high = _range(doc_id)
    exposed = {digest: _exposed(lake, order, low, high) for digest, order in orders.items()}
    document = _only_one(doc_id, exposed)
    mine = {
        digest: sorted(found.filter(pc.field("doc_id") == document)["sequence_index"].to_pylist())
        for digest, found in exposed.items()
    }
    home = latest if latest is not None else next(iter(orders.values()))
    about = _look_up(lake, home, pa.array([document], pa.binary(16))).to_pylist()[0]
    return DocumentTrace(
        doc_id=document.hex(),
        source=about["source"],
        path=about["path"],
        table=str(latest.ref) if latest is not None else None,
        sequences=tuple(mine[latest.digest]) if latest is not None else (),
        runs=tuple(_exposure(lake, run, orders[run["digest"]], mine[run["digest"]]) for run in runs),
        untraceable=tuple(untraceable),
    )


def _orders(lake: Lake, runs: list[dict[str, Any]], *, strict: bool) -> tuple[dict[str, Table], list[str]]:
    """The sequences of each run by digest, and the runs whose sequences are gone."""
    orders: dict[str, Table] = {}
    gone = []
    for run in runs:
        try:
            orders[run["digest"]] = _sequences_of(lake, run)
        except (DataMismatch, UnknownName):
            if strict:
                raise
            gone.append(run["run_id"])
    return orders, gone


def _runs(lake: Lake, run_id: str | None) -> list[dict[str, Any]]:
    """The first attempt of each run (or of the one), in the order they began."""
    if not lake.exists("training_runs"):
        raise UnknownName("no training run is on record in this lake", hint="train first: trainer/train.py")
    columns = ["run_id", "attempt", "table", "version", "digest", "started_at"]
    rows = sorted(
        lake.table("training_runs").to_arrow(columns).to_pylist(), key=lambda row: row["started_at"]
    )
    first = {row["run_id"]: row for row in reversed(rows)}
    if run_id is None:
        return sorted(first.values(), key=lambda row: row["started_at"])
    if run_id not in first:
        raise UnknownName.of("run", run_id, first)
    return [first[run_id]]


def live_rows(lake: Lake, table: str, run_id: str) -> pa.Table:
    """The rows a run logged into ``table``, each step once, less those a later attempt went back behind."""
    if not lake.exists(table):
        return pa.table({"step": pa.array([], pa.int64())})
    con = duckdb.connect(":memory:")
    try:
        con.register("entries", lake.table(table).scan())
        con.register("runs", lake.table("training_runs").scan(["run_id", "attempt", "start_step"]))
        return con.sql(_LIVE, params={"run": run_id}).to_arrow_table()
    finally:
        con.close()


def _sequences_of(lake: Lake, run: dict[str, Any]) -> Table:
    """The exact version a run read. Raises ``DataMismatch`` when the lake holds another."""
    table = lake.table(run["table"], version=run["version"])
    if table.digest != run["digest"]:
        raise DataMismatch(
            f"run {run['run_id']} read {table.ref} with digest {run['digest']}, "
            f"the lake holds {table.digest}",
            hint="the table was dropped and made anew after the run; its steps can no longer be traced",
        )
    return table


def _documents(lake: Lake, sequences: Table, taken: pa.Table) -> pa.Table:
    spans = taken["spans"].combine_chunks()
    flat = spans.flatten()
    counts = pc.list_value_length(spans)
    index = pa.array(np.repeat(taken["sequence_index"].to_numpy(), counts.to_numpy()))
    ids = flat.field("doc_id")
    unique = pc.unique(ids)
    about = _look_up(lake, sequences, unique)
    tokens = flat.field("length")
    total = pc.sum(tokens).as_py() or 1
    return pa.table(
        {
            "sequence_index": index,
            "doc_id": pa.array([i.hex() for i in ids.to_pylist()], pa.string()),
            "source": flat.field("source"),
            "path": about["path"].take(pc.index_in(ids, unique)),
            "start": flat.field("start"),
            "tokens": tokens,
            "share": pc.divide(tokens.cast(pa.float64()), float(total)),
        }
    )


def _look_up(lake: Lake, sequences: Table, ids: pa.Array) -> pa.Table:
    """``source`` and ``path`` of documents, in the order of ``ids``; null where nothing tells them."""
    from headwater.sequences.source import text_of

    nothing = pa.nulls(len(ids), pa.string())
    found = pa.table({"source": nothing, "path": nothing})
    try:
        packed = sequences.provenance.extra["packed_table"]
        curated = lake.table(packed["table"], version=packed["version"])
        homes = [curated, text_of(lake, curated)]
    except (HeadwaterError, KeyError):
        return found
    for i, column in enumerate(found.schema.names):
        home = next((table for table in homes if column in table.schema.names), None)
        if home is None:
            continue
        rows = home.to_arrow(["doc_id", column], filter=in_list("doc_id", ids))
        places = pc.index_in(ids, rows["doc_id"].combine_chunks())
        found = found.set_column(i, column, rows[column].take(places))
    return found


def _range(doc_id: str) -> tuple[bytes, bytes]:
    digits = doc_id.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
        raise UsageError(f"{doc_id!r} is not a document id", hint="give up to 32 hex digits")
    return bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f"))


def _exposed(lake: Lake, sequences: Table, low: bytes, high: bytes) -> pa.Table:
    """``doc_id, sequence_index`` of the documents in a range of ids, through the index where it is there."""
    between = f"doc_id >= X'{low.hex()}' and doc_id <= X'{high.hex()}'"
    exposures = _exposures_of(lake, sequences)
    if exposures is not None:
        return exposures.to_arrow(["doc_id", "sequence_index"], filter=between)
    bounds = [pa.scalar(low, pa.binary(16)), pa.scalar(high, pa.binary(16))]
    parts = []
    for batch in sequences.scan(["sequence_index", "spans"], batch_rows=SPAN_BATCH_ROWS):
        rows = exposures_of(batch)
        ids = rows["doc_id"].cast(pa.binary())
        inside = pc.and_(
            pc.greater_equal(ids, bounds[0].cast(pa.binary())),
            pc.less_equal(ids, bounds[1].cast(pa.binary())),
        )
        parts.append(rows.filter(inside))
    return pa.Table.from_batches(parts)


def _exposures_of(lake: Lake, sequences: Table) -> Table | None:
    """The version of ``exposures`` that was derived from this content, the latest first."""
    name = f"{sequences.name.rpartition('.')[0]}.exposures"
    if not lake.exists(name):
        return None
    wanted = (sequences.name, sequences.digest)
    latest = lake.table(name)
    if wanted in {(ref.name, ref.digest) for ref in latest.provenance.inputs}:
        return latest
    for row in reversed(lake.versions(name).select(["version", "inputs"]).to_pylist()):
        if wanted in {(ref["table"], ref["digest"]) for ref in json.loads(row["inputs"])}:
            return lake.table(name, version=row["version"])
    return None


def _only_one(doc_id: str, exposed: dict[str, pa.Table]) -> bytes:
    tables = [found.select(["doc_id"]) for found in exposed.values()]
    ids = pc.unique(pa.concat_tables(tables)["doc_id"]).to_pylist() if tables else []
    if not ids:
        raise UnknownName(
            f"no packed document begins with {doc_id}",
            hint=f"headwater why {doc_id} tells whether it was dropped, and by which rule",
        )
    if len(ids) > 1:
        shown = ", ".join(i.hex() for i in sorted(ids)[:5])
        raise UsageError(f"{len(ids)} documents begin with {doc_id}: {shown}", hint="give more digits")
    return bytes(ids[0])


def _exposure(lake: Lake, run: dict[str, Any], sequences: Table, indices: list[int]) -> RunExposure:
    """Steps by the arithmetic of the log, checkpoints by the first of them."""
    steps = live_rows(lake, "training_steps", run["run_id"])
    seen = _steps_with(steps, indices)
    live = live_rows(lake, "checkpoints", run["run_id"])
    checkpoints = [(row["step"], row["path"]) for row in live.to_pylist()]
    clean = [c for c in checkpoints if not seen or c[0] < seen[0]]
    return RunExposure(
        run_id=run["run_id"],
        table=str(sequences.ref),
        sequences=tuple(indices),
        steps=seen,
        last_step=int(steps["step"][-1].as_py()) if steps.num_rows else 0,
        checkpoints_that_saw_it=tuple(c for c in checkpoints if seen and c[0] >= seen[0]),
        last_clean_checkpoint=clean[-1] if clean else None,
    )


def _steps_with(steps: pa.Table, indices: list[int]) -> tuple[int, ...]:
    """The steps whose ``[first_sequence, first_sequence + count)`` holds one of the sequences."""
    if not steps.num_rows or not indices:
        return ()
    con = duckdb.connect(":memory:")
    try:
        con.register("live", steps)
        con.register("mine", pa.table({"sequence_index": pa.array(indices, pa.int64())}))
        found = con.sql(
            "select distinct step from live join mine on sequence_index >= first_sequence "
            "and sequence_index < first_sequence + count order by step"
        ).fetchall()
    finally:
        con.close()
    return tuple(int(step) for (step,) in found)
