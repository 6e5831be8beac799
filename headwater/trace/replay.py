# the names in these queries are ours; every value is a parameter
"""What training again without some documents would cost, from the run's own measured speed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

if TYPE_CHECKING:
    from headwater.trace.runs import Run


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The steps between a checkpoint and the end of a run, and how long they took.

    ``seconds`` is that of the steps themselves, without checkpoints and evaluation: tokens over the logged
    tokens/s. ``device_hours`` multiplies each step by the processes that ran it (one accelerator each).
    Both are ``None`` where speed was not logged.
    """

    from_step: int
    """0: from fresh weights, as no checkpoint is clean."""
    to_step: int
    steps: int
    tokens: int
    seconds: float | None
    device_hours: float | None
    checkpoint: str | None
    checkpoint_exists: bool | None = None
    """Whether the folder of ``checkpoint`` is still there; ``None`` where nobody looked."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def replay(
    steps: pa.Table, clean: tuple[int, str] | None, runs: Path | None = None, run: Run | None = None
) -> Replay:
    """The cost from checkpoint ``clean`` on over the trained ``steps`` of a run.

    Parameters
    ----------
    runs: folder of runs, to see whether the checkpoint is still there.
    """
    start = clean[0] if clean else 0
    con = duckdb.connect(":memory:")
    try:
        con.register("steps", steps)
        found = con.sql(
            """
            with speed as (
                -- Steps without a logged speed count as fast as the others were.
                select sum(tokens) filter (tokens_per_second > 0)
                    / sum(tokens / tokens_per_second) filter (tokens_per_second > 0) as usual from steps
            ), timed as (
                select step, tokens, world_size, tokens / coalesce(
                    case when tokens_per_second > 0 then tokens_per_second end, usual) as seconds
                from steps, speed
            )
            select count(distinct step) filter (step > $start),
                   coalesce(sum(tokens) filter (step > $start), 0)::bigint,
                   sum(seconds) filter (step > $start),
                   sum(seconds * world_size) filter (step > $start) / 3600, coalesce(max(step), 0)
            from timed
            """,
            params={"start": start},
        ).fetchall()[0]
    finally:
        con.close()
    number, tokens, seconds, hours, last = found
    exists = None
    if clean is not None and runs is not None and run is not None and (runs / run.run_id).is_dir():
        exists = (runs / run.run_id / Path(clean[1]).name).is_dir()
    return Replay(
        from_step=start,
        to_step=int(last),
        steps=int(number),
        tokens=int(tokens),
        seconds=None if seconds is None else float(seconds),
        device_hours=None if hours is None else float(hours),
        checkpoint=clean[1] if clean else None,
        checkpoint_exists=exists,
    )
