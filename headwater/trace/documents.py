# the names in these queries are ours; every value is a parameter
"""A takedown question: which checkpoints saw any of these documents, and which is the last that saw none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.ancestry import descendants
from headwater.report.narrow import one, rows
from headwater.sql import run as execute
from headwater.trace.document import last_step, open_all
from headwater.trace.orders import look_up
from headwater.trace.replay import Replay, replay
from headwater.trace.seen import Asked, asked, distinct_ids

if TYPE_CHECKING:
    from headwater.lake import Lake, Table
    from headwater.trace.runs import Run

MAX_LISTED = 1_000
"""Documents named one by one in an answer; the counts and the checkpoints are of all."""


@dataclass(frozen=True, kw_only=True)
class RunExposures:
    """What one run saw of a set of documents."""

    run_id: str
    tables: tuple[str, ...]
    documents: int
    """Documents of the set that some step holds."""
    tokens: int
    """Of them, trained on, every pass counted."""
    steps: tuple[int, ...]
    last_step: int
    checkpoints: tuple[tuple[int, str, int], ...]
    """``(step, path, documents seen by then)`` of every checkpoint that stands."""
    last_clean_checkpoint: tuple[int, str] | None
    """The last checkpoint that saw none of them."""
    replay: Replay | None
    exposures: tuple[dict[str, Any], ...]
    """``doc_id``, ``source``, ``path``, ``first_step``, ``last_step``, ``num_steps``; the earliest first, at
    most ``MAX_LISTED``."""

    @property
    def checkpoints_that_saw_any(self) -> tuple[tuple[int, str], ...]:
        return tuple((step, path) for step, path, seen in self.checkpoints if seen)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "checkpoints_that_saw_any": self.checkpoints_that_saw_any}


@dataclass(frozen=True, kw_only=True)
class DocumentsTrace:
    """A set of documents' way through training."""

    asked: int
    packed: int
    """Of them, in some training order of the lake; the others no run can have seen."""
    not_packed: tuple[str, ...]
    """Their ids, at most ``MAX_LISTED``."""
    runs: tuple[RunExposures, ...]
    untraceable: tuple[str, ...] = ()
    """Runs whose sequences the lake no longer holds."""
    descendants: dict[str, Any] | None = None
    """Synthetic documents that were made from them (``Descendants``), where there are any."""
    with_descendants: bool = False
    """Whether these are among the documents asked about."""

    def to_json(self) -> dict[str, Any]:
        """The trace as plain data."""
        return {**asdict(self), "runs": [run.to_json() for run in self.runs]}


def trace_documents(
    lake: Lake,
    ids: pa.Array,
    run_id: str | None = None,
    *,
    runs_folder: Path | None = None,
    with_descendants: bool = False,
) -> DocumentsTrace:
    """The steps and checkpoints that hold some of any of ``ids`` (binary(16), distinct), run by run.

    ``with_descendants`` asks about every synthetic document that was made from them as well.
    """
    runs, orders, _, untraceable = open_all(lake, run_id)
    made = descendants(lake, ids)
    if with_descendants and made.count:
        ids = distinct_ids([*ids.to_pylist(), *made.ids.to_pylist()])
    with asked(lake, orders, ids) as found:
        missing = rows(
            found.con,
            "select lower(hex(doc_id)) as doc_id from asked anti join packed using (doc_id) "
            f"order by 1 limit {MAX_LISTED}",
        )
        return DocumentsTrace(
            asked=len(ids),
            packed=found.num_packed(),
            not_packed=tuple(row["doc_id"] for row in missing),
            runs=tuple(_exposures(lake, run, orders, found, runs_folder) for run in runs),
            untraceable=tuple(untraceable),
            descendants=made.to_json() if made.count else None,
            with_descendants=with_descendants,
        )


def _exposures(
    lake: Lake, run: Run, orders: dict[str, Table], found: Asked, folder: Path | None
) -> RunExposures:
    trained = found.join(run)
    found.load_parts()
    steps = found.steps()
    checkpoints = found.checkpoints(run)
    clean = [(step, path) for step, path, seen in checkpoints if not seen]
    last_clean = clean[-1] if clean else None
    return RunExposures(
        run_id=run.run_id,
        tables=tuple(str(ref) for ref in run.tables),
        documents=int(one(found.con, "select count(distinct doc_id) from seen")[0]),
        tokens=int(one(found.con, "select coalesce(sum(tokens), 0)::bigint from parts")[0]),
        steps=steps,
        last_step=last_step(lake, run),
        checkpoints=checkpoints,
        last_clean_checkpoint=last_clean,
        replay=replay(trained, last_clean, folder, run) if steps else None,
        exposures=tuple(_listed(lake, orders[run.tables[-1].digest], found)),
    )


def _listed(lake: Lake, order: Table, found: Asked) -> list[dict[str, Any]]:
    first = execute(
        found.con,
        "select doc_id, min(step), max(step), count(distinct step) from seen "
        f"group by doc_id order by 2, 1 limit {MAX_LISTED}",
    )
    ids = pa.array([bytes(row[0]) for row in first], pa.binary(16))
    about = look_up(lake, order, ids).to_pylist()
    return [
        {"doc_id": bytes(doc).hex(), **known, "first_step": low, "last_step": high, "num_steps": number}
        for (doc, low, high, number), known in zip(first, about, strict=True)
    ]
