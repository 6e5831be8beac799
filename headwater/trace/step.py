"""From a training step to its documents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import UnknownName
from headwater.trace.orders import FLAT, FORMS, flat_spans, look_up, open_order
from headwater.trace.runs import SKIPPED, live_rows, runs_of
from headwater.trace.seen import unique_ids

if TYPE_CHECKING:
    from headwater.lake import Lake, Table


@dataclass(frozen=True, kw_only=True)
class StepTrace:
    """The documents of one step, a row per span in the order of training.

    ``documents`` columns: ``sequence_index``, ``doc_id`` (hex), ``source``, ``path`` (null where the table
    has none), ``start`` and ``tokens`` (of the document), ``share`` (of the step's tokens, sums to 1),
    ``epoch`` (0: the first pass over the document), ``form`` (plain, PSM or SPM).
    """

    run_id: str
    attempt: int
    step: int
    table: str
    first_sequence: int
    count: int
    loss: float | None
    tokens: int
    documents: pa.Table
    use: str = "trained"
    """``trained``, or ``skipped``: passed over, so that no weights came of it."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The documents as a list of dicts: a step holds few."""
        return list(self.documents.to_pylist())

    def to_json(self) -> dict[str, Any]:
        """The trace as plain data."""
        facts = {k: getattr(self, k) for k in self.__dataclass_fields__ if k != "documents"}
        return {**facts, "documents": self.rows}


def trace_step(lake: Lake, step: int, run_id: str | None = None) -> StepTrace:
    """The documents that ``step`` of a run saw (the latest run, unless ``run_id`` names one).

    Raises
    ------
    UnknownName
        No such run, or it has not logged this step.
    DataMismatch
        The lake no longer holds the sequences that the step's attempt read.
    """
    run = runs_of(lake, run_id)[-1]
    live = live_rows(lake, "training_steps", run.run_id)
    found = live.filter(pc.field("step") == step).to_pylist()
    if not found:
        known = f"{live['step'][0]} to {live['step'][-1]}" if live.num_rows else "none yet"
        raise UnknownName(f"run {run.run_id} has logged no step {step}", hint=f"its steps: {known}")
    trained = [row for row in found if row.get("use") != SKIPPED]
    facts = (trained or found)[0]
    order = open_order(lake, run.attempt(facts["attempt"]).table, run_id=run.run_id)
    first, count = facts["first_sequence"], facts["count"]
    return StepTrace(
        run_id=run.run_id,
        attempt=facts["attempt"],
        step=step,
        table=str(order.ref),
        first_sequence=first,
        count=count,
        loss=facts.get("loss"),
        tokens=facts.get("tokens") or 0,
        use="trained" if trained else SKIPPED,
        documents=sequence_documents(lake, order, first, count),
    )


def step_documents(lake: Lake, run_id: str, step: int) -> list[dict[str, Any]]:
    """The documents of a logged step as plain rows: what a trainer names at a spike."""
    return trace_step(lake, step, run_id).rows


def sequence_documents(lake: Lake, order: Table, first_sequence: int, count: int) -> pa.Table:
    """The documents of ``count`` sequences, as :class:`StepTrace` has them. Needs no log."""
    return documents_of(lake, order, flat_spans(order, first_sequence, first_sequence + count))


def documents_of(lake: Lake, order: Table, spans: Iterable[pa.RecordBatch]) -> pa.Table:
    """Spans with what is known of their documents."""
    rows = pa.Table.from_batches(list(spans), schema=FLAT).combine_chunks()
    unique = unique_ids(rows["doc_id"])
    about = look_up(lake, order, unique)
    total = pc.sum(rows["length"]).as_py() or 1
    return pa.table(
        {
            "sequence_index": rows["sequence_index"],
            "doc_id": pa.array([i.hex() for i in rows["doc_id"].to_pylist()], pa.string()),
            "source": rows["source"],
            "path": about["path"].take(pc.index_in(rows["doc_id"], unique)),
            "start": rows["start"],
            "tokens": rows["length"],
            "share": pc.divide(rows["length"].cast(pa.float64()), float(total)),
            "epoch": rows["epoch"],
            "form": pa.array(FORMS).take(rows["form"].cast(pa.int64())),
        }
    )
