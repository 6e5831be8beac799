"""A training run's log in the lake: ``training_runs``, ``training_steps``, ``checkpoints``. Rank 0 only.

Rows go to a file beside the checkpoints first and from there to the lake, in batches: a kill loses none,
and a build that holds the schema's lease never makes training wait.
"""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater.errors import CommitConflict, LeaseHeld
from headwater.lake import Lake, Provenance, Table

RUN_FILE = "run.json"
FLUSH_SECONDS = 30.0
LAST_WAIT_SECONDS = 20.0

_AT = pa.timestamp("us", tz="UTC")
SCHEMAS = {
    "training_runs": pa.schema(
        {
            "run_id": pa.string(),
            "attempt": pa.int64(),
            "recipe": pa.string(),
            "config": pa.string(),
            "table": pa.string(),
            "version": pa.int64(),
            "digest": pa.string(),
            "tokenizer_id": pa.string(),
            "sequence_length": pa.int64(),
            "approved": pa.bool_(),
            "bypass": pa.string(),
            "world_size": pa.int64(),
            "start_step": pa.int64(),
            "resumed_from": pa.string(),
            "git_commit": pa.string(),
            "started_at": _AT,
        }
    ),
    "training_steps": pa.schema(
        {
            "run_id": pa.string(),
            "attempt": pa.int64(),
            "step": pa.int64(),
            "first_sequence": pa.int64(),
            "count": pa.int64(),
            "loss": pa.float64(),
            "grad_norm": pa.float64(),
            "learning_rate": pa.float64(),
            "tokens": pa.int64(),
            "tokens_per_second": pa.float64(),
            "data_wait_seconds": pa.float64(),
            "at": _AT,
        }
    ),
    "checkpoints": pa.schema(
        {
            "run_id": pa.string(),
            "attempt": pa.int64(),
            "step": pa.int64(),
            "path": pa.string(),
            "next_sequence": pa.int64(),
            "at": _AT,
        }
    ),
}
"""A resumed run is a new attempt. Its steps replace those of earlier attempts after its ``start_step``."""


class RunLog:
    """Buffers rows in ``folder/pending.jsonl`` and appends them to the lake when it is free.

    Each opening is a new attempt at the run; ``folder/run.json`` keeps their number, and ``facts``.
    """

    def __init__(self, lake: Lake, folder: Path, **facts: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / RUN_FILE
        attempt = json.loads(file.read_text())["attempt"] + 1 if file.exists() else 1
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps({**facts, "attempt": attempt}))
        fresh.rename(file)
        self._lake = lake
        self._own = {"run_id": folder.name, "attempt": attempt}
        self._path = folder / "pending.jsonl"
        self._pending = self._left_over()
        self._flushed_at = time.monotonic()

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    def start(self, table: Table, *, bypass: str | None, **row: Any) -> None:
        """Note the attempt itself: the version it reads, at which commit of the code, and ``row``."""
        row |= {"approved": bypass is None, "bypass": bypass}
        facts = {**table.ref.to_dict(), "tokenizer_id": table.provenance.extra["tokenizer_id"]}
        length = table.provenance.extra["sequence_length"]
        self.add("training_runs", **facts, sequence_length=length, git_commit=_git_commit(), **row)
        self.flush()

    def add(self, into: str, **row: Any) -> None:
        """Note a row for the table ``into``; the time of now goes into its ``*at`` column."""
        stamp = "started_at" if into == "training_runs" else "at"
        entry = {"into": into, "row": {**self._own, **row, stamp: datetime.now(UTC).isoformat()}}
        self._pending.append(entry)
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def flush(self, *, wait_seconds: float = 0.0) -> bool:
        """Append what is pending; False when another writer holds the schema (it stays pending)."""
        self._flushed_at = time.monotonic()
        try:
            with self._lake.lease(purpose="training log", wait_seconds=wait_seconds):
                for table in SCHEMAS:
                    self._append(table, [e["row"] for e in self._pending if e["into"] == table])
        except (LeaseHeld, CommitConflict, OSError):
            return False
        return True

    def flush_when_due(self) -> None:
        if time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self.flush()

    def _append(self, table: str, found: list[dict[str, Any]]) -> None:
        if not found:
            return
        schema = SCHEMAS[table]
        stamp = next(name for name in schema.names if schema.field(name).type == _AT)
        rows = [{**e, stamp: datetime.fromisoformat(e[stamp])} for e in found]
        batch = pa.Table.from_pylist([{k: r.get(k) for k in schema.names} for r in rows], schema=schema)
        name = f"{self._lake.schema}.{table}"
        self._lake.write(name, batch, mode="append", provenance=Provenance(kind="log"))
        self._pending = [e for e in self._pending if e["into"] != table]
        # A kill right here leaves rows both in the lake and in the file: readers take each step once.
        fresh = self._path.with_suffix(".new")
        fresh.write_text("".join(json.dumps(e) + "\n" for e in self._pending))
        fresh.rename(self._path)

    def _left_over(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # the line that a kill cut short
                continue
        return found


def _git_commit() -> str | None:
    """The commit of the working directory, where it is a repository."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
