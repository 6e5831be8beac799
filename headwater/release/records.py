# the names in these queries are ours; every value is a parameter
"""A run's log, recipe and tokenizer as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from headwater.trace.runs import Run, config_of
from headwater.training.run_log import SCHEMAS

if TYPE_CHECKING:
    from headwater.lake import Lake

TEXT_COLUMNS = {"generation_samples": ("prompt", "text")}
"""What a log holds that may repeat text of the corpus."""

_ROWS = """
    select noted.*, not exists (
        select 1 from runs later where later.run_id = $run
        and later.attempt > noted.attempt and later.start_step < noted.step) as stands
    from (select distinct * from entries where run_id = $run) noted
    order by all
"""
_ATTEMPTS = "select distinct * from entries where run_id = $run order by attempt"


def write_log(folder: Path, lake: Lake, run_id: str, *, with_text: bool) -> dict[str, int]:
    """One Parquet file for each table of the log that has rows of the run; returns their numbers.

    ``stands`` is false for what a later attempt went back behind.
    """
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    written = {}
    for name in SCHEMAS:
        if not lake.exists(name):
            continue
        table = lake.table(name)
        hidden = () if with_text else TEXT_COLUMNS.get(name, ())
        con = duckdb.connect(":memory:")
        try:
            con.register("entries", table.scan([n for n in table.schema.names if n not in hidden]))
            con.register("runs", lake.table("training_runs").scan(["run_id", "attempt", "start_step"]))
            query = _ATTEMPTS if name == "training_runs" else _ROWS
            rows = con.sql(query, params={"run": run_id}).to_arrow_table()
        finally:
            con.close()
        if rows.num_rows:
            pq.write_table(rows, folder / f"{name}.parquet", compression="zstd")
            written[name] = rows.num_rows
    return written


def write_recipe(path: Path, lake: Lake, run: Run) -> None:
    """The recipe's name and settings, and each attempt: what it read, from where, on how many processes."""
    recipe, config = config_of(lake, run.run_id)
    attempts: list[dict[str, Any]] = [
        {
            "attempt": a.attempt,
            "start_step": a.start_step,
            "world_size": a.world_size,
            **a.table.to_dict(),
            "approved": a.bypass is None,
            "bypass": a.bypass,
        }
        for a in run.attempts
    ]
    facts = {"run_id": run.run_id, "recipe": recipe, "config": config, "attempts": attempts}
    path.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_tokenizers(folder: Path, lake: Lake, ids: list[str]) -> list[str]:
    """``tokenizer.json`` of each id, in a folder of its own where there are several; returns missing ids."""
    known = lake.table("tokenizers") if lake.exists("tokenizers") else None
    rows = known.to_arrow(["tokenizer_id", "json"]).to_pylist() if known is not None else []
    found = {row["tokenizer_id"]: row["json"] for row in rows}
    for each in ids:
        if each in found:
            place = folder if len(ids) == 1 else folder / each
            place.mkdir(parents=True, exist_ok=True)
            (place / "tokenizer.json").write_text(found[each], encoding="utf-8")
    return [each for each in ids if each not in found]
