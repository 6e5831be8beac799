"""From documents to the steps and checkpoints that saw them, and what a replay without them costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.ancestry import made_from
from headwater.errors import UnknownName, UsageError
from headwater.sql import run as execute
from headwater.trace.orders import DEFAULT_ORDER, FORMS, id_range, look_up, open_orders, packed_ids
from headwater.trace.replay import Replay, replay
from headwater.trace.runs import Run, live_rows, runs_of
from headwater.trace.seen import Asked, asked

if TYPE_CHECKING:
    from headwater.lake import Lake, Table


@dataclass(frozen=True, kw_only=True)
class RunExposure:
    """What one run saw of a document.

    ``steps`` are those that hold some of it; ``checkpoints_that_saw_it`` the checkpoints written at or
    after the first of them, as ``(step, path)``; ``last_clean_checkpoint`` the last one before.
    """

    run_id: str
    tables: tuple[str, ...]
    """The orders the run read, a stage each."""
    sequences: tuple[int, ...]
    """Sequences that hold it in the run's last order, trained on or not."""
    steps: tuple[int, ...]
    last_step: int
    epochs: int
    """Passes over the document that the run began; 0 where no step holds it."""
    tokens: int
    """Of the document, trained on, every pass counted."""
    forms: tuple[str, ...]
    """How it was shown: ``plain``, or fill-in-the-middle as ``PSM`` or ``SPM``."""
    checkpoints_that_saw_it: tuple[tuple[int, str], ...]
    last_clean_checkpoint: tuple[int, str] | None
    replay: Replay | None
    """What training again from the last clean checkpoint costs; ``None`` where no step holds it."""

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
    descendants: dict[str, Any] | None = None
    """Synthetic documents that were made from it (``Descendants``), where there are any."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [run.to_json() for run in self.runs]

    def to_json(self) -> dict[str, Any]:
        """The trace as plain data."""
        return {**asdict(self), "runs": self.rows}


def trace_document(
    lake: Lake, doc_id: str, run_id: str | None = None, *, runs_folder: Path | None = None
) -> DocumentTrace:
    """The sequences, steps and checkpoints that hold some of a document, for every run or for one.

    Parameters
    ----------
    doc_id:
        32 hex digits (dashes are ignored), or the first few when no other document begins so.
    runs_folder:
        Where the runs' checkpoints are, to say whether the one to replay from is still there.

    Raises
    ------
    UnknownName, UsageError
        No packed document begins with ``doc_id``, or several do.
    """
    runs, orders, latest, untraceable = open_all(lake, run_id)
    document = only_one(doc_id, packed(lake, orders, doc_id))
    ids = pa.array([document], pa.binary(16))
    with asked(lake, orders, ids) as found:
        mine = found.sequences(latest.digest) if latest is not None else ()
        exposures = tuple(_exposure(lake, run, found, runs_folder) for run in runs)
    home = latest if latest is not None else next(iter(orders.values()))
    about = look_up(lake, home, ids).to_pylist()[0]
    return DocumentTrace(
        doc_id=document.hex(),
        source=about["source"],
        path=about["path"],
        table=str(latest.ref) if latest is not None else None,
        sequences=mine,
        runs=exposures,
        untraceable=tuple(untraceable),
        descendants=made_from(lake, ids),
    )


def open_all(lake: Lake, run_id: str | None) -> tuple[list[Run], dict[str, Table], Table | None, list[str]]:
    """The traceable runs, all orders by digest, the latest ``sequences``, and the runs whose order is gone.

    A run that is named must be traceable; among all of them one that is not is told apart.
    """
    runs = runs_of(lake, run_id) if run_id or lake.exists("training_runs") else []
    orders, untraceable = open_orders(lake, runs, strict=run_id is not None)
    runs = [run for run in runs if run.run_id not in untraceable]
    latest = lake.table(DEFAULT_ORDER) if lake.exists(DEFAULT_ORDER) else None
    if latest is not None:
        orders[latest.digest] = latest
    if not orders:
        raise UnknownName("nothing was packed in this lake", hint="headwater pack makes a training order")
    return runs, orders, latest, untraceable


def packed(lake: Lake, orders: dict[str, Table], doc_id: str) -> list[bytes]:
    """The ids of any of the orders that begin with ``doc_id``."""
    low, high = id_range(doc_id)
    return sorted({each for order in orders.values() for each in packed_ids(lake, order, low, high)})


def only_one(doc_id: str, ids: list[bytes]) -> bytes:
    """The one packed document. Raises ``UnknownName`` for none, ``UsageError`` for several."""
    if not ids:
        raise UnknownName(
            f"no packed document begins with {doc_id}",
            hint=f"headwater why {doc_id} tells whether it was dropped, and by which rule",
        )
    if len(ids) > 1:
        shown = ", ".join(i.hex() for i in ids[:5])
        raise UsageError(f"{len(ids)} documents begin with {doc_id}: {shown}", hint="give more digits")
    return ids[0]


def _exposure(lake: Lake, run: Run, found: Asked, folder: Path | None) -> RunExposure:
    trained = found.join(run)
    steps = found.steps()
    found.load_parts()
    tokens, epochs, forms = next(
        iter(execute(found.con, "select tokens, passes, forms from parts")), (0, 0, ())
    )
    checkpoints = found.checkpoints(run)
    clean = [(step, path) for step, path, seen in checkpoints if not seen]
    return RunExposure(
        run_id=run.run_id,
        tables=tuple(str(ref) for ref in run.tables),
        sequences=found.sequences(run.tables[-1].digest),
        steps=steps,
        last_step=last_step(lake, run),
        epochs=epochs,
        tokens=tokens,
        forms=tuple(FORMS[form] for form in forms),
        checkpoints_that_saw_it=tuple((step, path) for step, path, seen in checkpoints if seen),
        last_clean_checkpoint=clean[-1] if clean else None,
        replay=replay(trained, clean[-1] if clean else None, folder, run) if steps else None,
    )


def last_step(lake: Lake, run: Run) -> int:
    """The last step that the run logged, 0 where none."""
    live = live_rows(lake, "training_steps", run.run_id)
    return int(live["step"][-1].as_py()) if live.num_rows else 0
