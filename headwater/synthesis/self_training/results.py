"""What every stage came to: pass@1 on held-out problems, and what it was trained on; means over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.ablate.statistics import Estimate, paired, t_interval
from headwater.errors import UnknownName
from headwater.lake import Provenance

if TYPE_CHECKING:
    from headwater.lake import Lake

TABLE = "self_training_results"

BASE, ROUND, CONTROL = "base", "self-training", "control"
"""Arms: the base; the base tuned on a round's own solutions; the base tuned as long on its demonstrations."""

RESULTS = pa.schema(
    {
        "loop_id": pa.string(),
        "recipe": pa.string(),
        "seed": pa.int64(),
        "arm": pa.string(),
        "round": pa.int32(),
        "model": pa.string(),
        "model_version": pa.string(),
        "problems": pa.int64(),
        "passed": pa.int64(),
        "pass_at_1": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "statuses": pa.string(),
        "sampled": pa.int64(),
        "right": pa.int64(),
        "solved_problems": pa.int64(),
        "kept_rows": pa.int64(),
        "kept_tokens": pa.int64(),
        "trained_tokens": pa.int64(),
        "settings": pa.string(),
    }
)
"""Columns of ``self_training_results``: one row for each model.

``pass_at_1`` is the share of held-out problems whose one greedy answer is right, ``low`` and ``high`` its
95 % Wilson interval over problems. ``sampled`` to ``kept_tokens`` are the round's own samples, which the
model was tuned on: null for the base and the control."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One arm and round over all seeds. ``gain`` is the difference to the base, paired by seed."""

    arm: str
    round_number: int
    seeds: Mapping[int, float]
    pass_at_1: Estimate
    gain: Estimate | None
    over_control: Estimate | None
    kept_rows: float | None
    kept_tokens: float | None
    sample_rate: float | None
    """Share of the round's samples that were right."""
    trained_tokens: float

    @property
    def label(self) -> str:
        return self.arm if self.arm != ROUND else f"round {self.round_number}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The experiment so far."""

    loop_id: str
    recipe: str
    problems: int
    settings: Mapping[str, Any]
    lines_of: tuple[Line, ...]
    rows: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        return {"loop_id": self.loop_id, "recipe": self.recipe, "results": [dict(row) for row in self.rows]}

    def lines(self) -> list[str]:
        """A table of the arms, and of every seed."""
        seeds = sorted({seed for line in self.lines_of for seed in line.seeds})
        head = f"{'':<10} {'pass@1':>7} {'±':>5}  {'over base':>9} {'±':>5}  {'over control':>12} {'±':>5}"
        head += "".join(f"  seed {seed:>2}" for seed in seeds) + f"  {'right':>6} {'kept':>7}"
        found = [
            f"{self.recipe} {self.loop_id}: pass@1 in % of {self.problems:,} held-out problems, greedy; "
            f"{len(seeds)} seeds, 95 % t intervals",
            head,
        ]
        for line in self.lines_of:
            cells = f"{line.label:<10} {_pair(line.pass_at_1, 7)}  {_pair(line.gain, 9, '+')}"
            cells += f"  {_pair(line.over_control, 12, '+')}"
            cells += "".join(f"  {_percent(line.seeds.get(seed)):>7}" for seed in seeds)
            kept = "–" if line.kept_rows is None else f"{line.kept_rows:,.0f}"
            found.append(f"{cells}  {_percent(line.sample_rate):>6} {kept:>7}")
        return found


def wilson(passed: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): sensible at 0, at 1 and for few problems."""
    if count == 0:
        return 0.0, 1.0
    z = 1.959964
    share, square = passed / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / count + square / count / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def is_recorded(lake: Lake, row: Mapping[str, Any]) -> bool:
    """Whether this very model's result stands in the table already."""
    if not lake.exists(TABLE):
        return False
    same = ("loop_id", "seed", "arm", "round", "model_version")
    known = lake.table(TABLE).to_arrow(list(same)).to_pylist()
    return any(all(each[name] == row[name] for name in same) for each in known)


def record(lake: Lake, row: Mapping[str, Any]) -> None:
    """Append a result, once."""
    if not is_recorded(lake, row):
        rows = pa.Table.from_pylist([{name: row.get(name) for name in RESULTS.names}], RESULTS)
        lake.write(TABLE, rows, mode="append", provenance=Provenance(kind="self-training"))


def outcome(lake: Lake, wanted: str | None = None) -> Outcome:
    """The experiment of that loop id or recipe, the latest without one. Raises ``UnknownName``."""
    rows = lake.table(TABLE).to_arrow().to_pylist() if lake.exists(TABLE) else []
    ids = {row["loop_id"] for row in rows} | {row["recipe"] for row in rows}
    if not rows or (wanted is not None and wanted not in ids):
        raise UnknownName.of("self-training experiment", wanted or "(the latest)", sorted(ids))
    mine = [row for row in rows if wanted in (None, row["loop_id"], row["recipe"])]
    loop_id = mine[-1]["loop_id"]
    # A stage that was made again (another machine's sums) counts as it is now.
    latest = {(r["arm"], r["round"], r["seed"]): r for r in mine if r["loop_id"] == loop_id}
    kept = sorted(latest.values(), key=lambda r: (_ORDER[r["arm"]], r["round"], r["seed"]))
    base = {r["seed"]: r["pass_at_1"] for r in kept if r["arm"] == BASE}
    control = {r["seed"]: r["pass_at_1"] for r in kept if r["arm"] == CONTROL}
    groups = list(dict.fromkeys((r["arm"], r["round"]) for r in kept))
    return Outcome(
        loop_id=loop_id,
        recipe=mine[-1]["recipe"],
        problems=mine[-1]["problems"],
        settings=_settings(mine[-1]["settings"]),
        lines_of=tuple(_line(arm, number, kept, base, control) for arm, number in groups),
        rows=tuple(kept),
    )


_ORDER = {BASE: 0, CONTROL: 1, ROUND: 2}


def _settings(text: str) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(text)
    return found


def _line(
    arm: str,
    number: int,
    rows: Sequence[Mapping[str, Any]],
    base: dict[int, float],
    control: dict[int, float],
) -> Line:
    mine = [row for row in rows if (row["arm"], row["round"]) == (arm, number)]
    seeds = {row["seed"]: row["pass_at_1"] for row in mine}
    own = arm == ROUND
    return Line(
        arm=arm,
        round_number=number,
        seeds=seeds,
        pass_at_1=t_interval(list(seeds.values())),
        gain=None if arm == BASE else paired(base, seeds),
        over_control=paired(control, seeds) if own else None,
        kept_rows=_mean(mine, "kept_rows") if own else None,
        kept_tokens=_mean(mine, "kept_tokens") if own else None,
        sample_rate=sum(r["right"] for r in mine) / sum(r["sampled"] for r in mine) if own else None,
        trained_tokens=_mean(mine, "trained_tokens"),
    )


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return math.fsum(row[name] for row in rows) / len(rows)


def _percent(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{100 * value:{sign}.1f}"


def _pair(found: Estimate | None, width: int, sign: str = "") -> str:
    mean = _percent(found.mean if found else None, sign)
    return f"{mean:>{width}} {_percent(found.half_width if found else None):>5}"
