"""A training run's log in the lake: what each attempt read, every step, checkpoint, evaluation and spike.

Rank 0 only. Rows go to a file beside the checkpoints first and from there to the lake, in batches: a kill
loses none, and a build that holds the schema's lease never makes training wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater.errors import LakeError
from headwater.lake import Lake, Provenance, Table

RUN_FILE = "run.json"
FLUSH_SECONDS = 30.0
LAST_WAIT_SECONDS = 20.0

_AT = pa.timestamp("us", tz="UTC")
_STEP = {"run_id": pa.string(), "attempt": pa.int64(), "step": pa.int64()}
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
            **_STEP,
            "first_sequence": pa.int64(),
            "count": pa.int64(),
            "loss": pa.float64(),
            "grad_norm": pa.float64(),
            "learning_rate": pa.float64(),
            "tokens": pa.int64(),
            "tokens_per_second": pa.float64(),
            "data_wait_seconds": pa.float64(),
            "at": _AT,
            "use": pa.string(),  # 'trained' or 'skipped'; null, in older rows, means trained
            "mfu": pa.float64(),
        }
    ),
    "training_sources": pa.schema(
        {**_STEP, "source": pa.string(), "tokens": pa.int64(), "loss": pa.float64(), "at": _AT}
    ),
    "checkpoints": pa.schema({**_STEP, "path": pa.string(), "next_sequence": pa.int64(), "at": _AT}),
    "evaluations": pa.schema(
        {
            **_STEP,
            "table": pa.string(),
            "version": pa.int64(),
            "digest": pa.string(),
            "tokens": pa.int64(),
            "bytes": pa.int64(),
            "loss": pa.float64(),
            "bits_per_byte": pa.float64(),
            "at": _AT,
        }
    ),
    "generation_samples": pa.schema({**_STEP, "prompt": pa.string(), "text": pa.string(), "at": _AT}),
    "loss_spikes": pa.schema(
        {
            **_STEP,
            "loss": pa.float64(),
            "expected": pa.float64(),
            "first_sequence": pa.int64(),
            "count": pa.int64(),
            "at": _AT,
            "documents": pa.list_(
                pa.struct(
                    {
                        "doc_id": pa.string(),
                        "source": pa.string(),
                        "sequence_index": pa.int64(),
                        "start": pa.int32(),
                        "tokens": pa.int32(),
                        "loss": pa.float64(),
                    }
                )
            ),
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
        self._file: int | None = None
        self.why_pending = ""
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
        """Note a row for the table ``into``; the time of now goes into its ``*at`` column.

        One line handed to the operating system: the process may be killed right after. On a full disk the
        row waits in memory, for training is not to end because of its log.
        """
        stamp = "started_at" if into == "training_runs" else "at"
        entry = {"into": into, "row": {**self._own, **row, stamp: datetime.now(UTC).isoformat()}}
        self._pending.append(entry)
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            # The newline comes first, too: it ends a line that a full disk cut short.
            os.write(self._file, b"\n" + json.dumps(entry).encode() + b"\n")

    def flush(self, *, wait_seconds: float = 0.0) -> bool:
        """Append what is pending; False when the lake cannot take it now, as ``why_pending`` says."""
        self._flushed_at = time.monotonic()
        if not self._pending:
            return True
        try:
            with self._lake.lease(purpose="training log", wait_seconds=wait_seconds):
                for table in SCHEMAS:
                    self._append(table, [e["row"] for e in self._pending if e["into"] == table])
        except (LakeError, OSError) as error:  # held by a build, or no space: training goes on
            self.why_pending = str(error).partition("\n")[0]
            return False
        finally:
            self._rewrite()
        return True

    def flush_when_due(self) -> None:
        if time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self.flush()

    def _append(self, table: str, found: list[dict[str, Any]]) -> None:
        if not found:
            return
        name, wanted = f"{self._lake.schema}.{table}", SCHEMAS[table]
        schema = self._widened(name, wanted) if self._lake.exists(name) else wanted
        stamp = next(name for name in wanted.names if wanted.field(name).type == _AT)
        rows = [{**e, stamp: datetime.fromisoformat(e[stamp])} for e in found]
        batch = pa.Table.from_pylist([{k: r.get(k) for k in schema.names} for r in rows], schema=schema)
        self._lake.write(name, batch, mode="append", provenance=Provenance(kind="log"))
        self._pending = [e for e in self._pending if e["into"] != table]

    def _widened(self, name: str, wanted: pa.Schema) -> pa.Schema:
        """The columns of the table: those of an older log are completed first, once, by a rewrite."""
        table = self._lake.table(name)
        new = [field for field in wanted if field.name not in table.schema.names]
        if not new:
            return table.schema
        schema = pa.schema([*table.schema, *new])

        def rows() -> Iterator[pa.RecordBatch]:
            for batch in table.scan():
                nulls = [pa.nulls(batch.num_rows, field.type) for field in new]
                yield pa.RecordBatch.from_arrays([*batch.columns, *nulls], schema=schema)

        self._lake.write(name, rows(), schema=schema, provenance=table.provenance)
        return schema

    def _rewrite(self) -> None:
        """Leave in the file what is still pending.

        A kill before this leaves rows both in the lake and in the file: readers take each row once.
        """
        if self._file is not None:
            os.close(self._file)
            self._file = None
        fresh = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
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
