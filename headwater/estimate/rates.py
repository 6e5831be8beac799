"""Rates that past runs measured: tokens a second of training, from the lake's log."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater.lineage import open_optional
from headwater.report.narrow import connection, load, rows

if TYPE_CHECKING:
    from headwater.lake import Lake

SHAPE = (
    "architecture", "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "config",
    "param_dtype", "compile", "activation_checkpointing",
)  # fmt: skip
"""Settings of a recipe that its speed depends on; a setting that an older run did not record counts as
its present default."""

DEFAULTS: dict[str, Any] = {
    "architecture": "LlamaForCausalLM", "config": {}, "activation_checkpointing": "none", "compile": False,
    "param_dtype": "float32",
}  # fmt: skip

WARM_UP_STEPS = 3
"""First steps of an attempt, which load, compile and allocate."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Tokens a second over all processes of a run: the median over its steps, and where it comes from."""

    tokens_per_second: float
    num_steps: int
    world_size: int
    run_ids: tuple[str, ...]

    @property
    def source(self) -> str:
        """In words."""
        runs = f"run {self.run_ids[-1]}" + (f" and {len(self.run_ids) - 1} more" if self.run_ids[1:] else "")
        return f"median of {self.num_steps:,} steps of {runs} on {self.world_size} processes"


def measured_rate(
    lakes: Iterable[Lake], settings: Mapping[str, Any], sequence_length: int, *, world_size: int | None = None
) -> Rate | None:
    """The rate of past runs of this shape of model, the newest number of processes unless one is asked for.

    ``None`` where no log has such a run.
    """
    found: dict[int, list[tuple[str, float]]] = {}
    newest: int | None = None
    for lake in lakes:
        runs, steps = (open_optional(lake, f"{lake.schema}.{n}") for n in ("training_runs", "training_steps"))
        if runs is None or steps is None:
            continue
        attempts = [
            row
            for row in runs.to_arrow(
                ["run_id", "attempt", "config", "sequence_length", "world_size", "start_step", "started_at"]
            ).to_pylist()
            if row["sequence_length"] == sequence_length and _same_shape(json.loads(row["config"]), settings)
        ]
        if not attempts:
            continue
        newest = max(attempts, key=lambda row: row["started_at"])["world_size"]
        for row in attempts:
            found.setdefault(row["world_size"], []).extend(_rates(steps, row))
    wanted = world_size if world_size is not None else newest
    values = found.get(wanted or 0, [])
    if not values:
        return None
    return Rate(
        tokens_per_second=statistics.median(rate for _, rate in values),
        num_steps=len(values),
        world_size=wanted or 0,
        run_ids=tuple(dict.fromkeys(run for run, _ in values)),
    )


def _rates(steps: Any, attempt: Mapping[str, Any]) -> list[tuple[str, float]]:
    with connection() as con:
        load(con, "steps", steps, ["run_id", "attempt", "step", "tokens_per_second"])
        found = rows(
            con,
            "select tokens_per_second as rate from steps where run_id = $run and attempt = $attempt "
            "and step > $first and tokens_per_second > 0 order by step",
            {
                "run": attempt["run_id"],
                "attempt": attempt["attempt"],
                "first": attempt["start_step"] + WARM_UP_STEPS,
            },
        )
    return [(attempt["run_id"], float(row["rate"])) for row in found]


def _same_shape(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return all(_setting(was, name) == _setting(now, name) for name in SHAPE)


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    value = settings.get(name, DEFAULTS.get(name))
    if name == "num_kv_heads":  # none given means as many as heads
        return value or settings.get("num_heads")
    return value
