"""The table ``completions``: every answer and every failure, once; and the file they reach before it.

The table is the cache. A completion's id is made of what was asked, of whom and how; a later row of the same
id is another attempt at what had failed. Rows go to a file first, each of them forced to the disk, and from
there to the lake in batches: a kill loses no answer that had arrived.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.ids import Ids, ids_from_arrow, sorted_distinct
from headwater.errors import LakeError, UsageError
from headwater.kernels.pairs import find_ids
from headwater.lake import Lake, Provenance, TableRef
from headwater.lake.table import in_list
from headwater.lineage import open_optional
from headwater.synthesis.generate.generator import Completion, Generator, canonical_json
from headwater.synthesis.generate.prompts import Request

TABLE = "completions"
FLUSH_ROWS = 256
FLUSH_SECONDS = 30.0
LAST_WAIT_SECONDS = 60.0
LOOKUP_ROWS = 1_024
MOST_FRAGMENTS = 64
"""More files than this are joined at the end of a run."""
PENDING_FILE = "pending.jsonl"

SCHEMA = pa.schema(
    {
        "completion_id": pa.binary(16),
        "prompt_id": pa.string(),
        "prompt_digest": pa.string(),
        "prompts_table": pa.string(),
        "recipe": pa.string(),
        "parent_ids": pa.list_(pa.binary(16)),
        "generator": pa.string(),
        "generator_version": pa.string(),
        "parameters": pa.string(),
        "text": pa.large_string(),
        "finish_reason": pa.string(),
        "prompt_bytes": pa.int64(),
        "prompt_tokens": pa.int64(),
        "completion_tokens": pa.int64(),
        "error": pa.string(),
        "retryable": pa.bool_(),
        "attempts": pa.int64(),
        "charged_prompt_tokens": pa.int64(),
        "charged_completion_tokens": pa.int64(),
        "cost": pa.float64(),
        "seconds": pa.float64(),
        "model": pa.string(),
        "run_id": pa.string(),
        "at": pa.timestamp("us", tz="UTC"),
    }
)
"""``charged_*`` count all attempts as the budget does; ``cost`` is null where no price was given; ``model``
is what an endpoint said it answered with."""

_ID_FIELDS = ("completion_id", "parent_ids")


def completion_row(
    key: bytes, request: Request, completion: Completion, generator: Generator, *, prompts_table: str,
    run_id: str, cost: float | None,
) -> dict[str, Any]:  # fmt: skip
    """A row of :data:`SCHEMA`, ids as hex: as it stands in the file."""
    return {
        "completion_id": key.hex(),
        "prompt_id": completion.prompt_id,
        "prompt_digest": request.prompt.digest,
        "prompts_table": prompts_table,
        "recipe": request.recipe,
        "parent_ids": [parent.hex() for parent in request.parent_ids],
        "generator": generator.name,
        "generator_version": generator.version,
        "parameters": canonical_json(generator.settings(request.prompt)),
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_bytes": len(request.prompt.text.encode("utf-8", "surrogatepass")),
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "error": completion.error,
        "retryable": completion.retryable if completion.error is not None else False,
        "attempts": completion.attempts,
        "charged_prompt_tokens": completion.charged[0],
        "charged_completion_tokens": completion.charged[1],
        "cost": cost,
        "seconds": completion.seconds,
        "model": completion.model,
        "run_id": run_id,
        "at": datetime.now(UTC).isoformat(),
    }


class Cache:
    """Which completions the lake holds: ids only, no text."""

    def __init__(self, answered: Ids, final: Ids) -> None:
        self._answered = answered
        self._final = final
        self._none = np.empty((0, 2), dtype=np.uint64)

    @classmethod
    def of(cls, lake: Lake) -> Cache:
        """What ``completions`` says now."""
        table = open_optional(lake, f"{lake.schema}.{TABLE}")
        answered: list[pa.Array] = []
        final: list[pa.Array] = []
        for batch in table.scan(["completion_id", "error", "retryable"]) if table is not None else ():
            failed = batch.column("error").is_valid()
            ids = batch.column("completion_id")
            answered.append(ids.filter(pc.invert(failed)))
            lasting = pc.and_(failed, pc.invert(batch.column("retryable").fill_null(False)))
            final.append(ids.filter(lasting))
        return cls(_sorted(answered), _sorted(final))

    def has_answer(self, completion_id: bytes) -> bool:
        return _holds(self._answered, completion_id)

    def has_final_error(self, completion_id: bytes) -> bool:
        return _holds(self._final, completion_id)


@dataclass(frozen=True)
class Spent:
    """What earlier runs took."""

    tokens: int = 0
    cost: float = 0.0


def spent_on(
    lake: Lake, prompts_table: str, generator: Generator, price: Callable[[int, int], float]
) -> Spent:
    """Tokens and money that completions of this prompts table by this generator have taken so far."""
    table = open_optional(lake, f"{lake.schema}.{TABLE}")
    if table is None:
        return Spent()
    columns = ["prompts_table", "generator", "charged_prompt_tokens", "charged_completion_tokens"]
    prompt = completion = 0
    for batch in table.scan(columns):
        mine = pc.and_(pc.equal(batch.column(0), prompts_table), pc.equal(batch.column(1), generator.name))
        rows = batch.filter(mine)
        prompt += pc.sum(rows.column(2)).as_py() or 0
        completion += pc.sum(rows.column(3)).as_py() or 0
    return Spent(prompt + completion, price(prompt, completion))


def compact(lake: Lake) -> None:
    """Join the small files of many commits, where there are many."""
    name = f"{lake.schema}.{TABLE}"
    table = open_optional(lake, name)
    if table is not None and len(table.fragments()) > MOST_FRAGMENTS:
        lake.maintain(name)


class Journal:
    """Takes rows at once and for good, and brings them to the lake when it is free.

    One journal works in a folder at a time. Rows that a killed run left there are taken over on opening.

    Raises
    ------
    UsageError
        Another process generates into this folder.
    """

    def __init__(
        self, lake: Lake, folder: Path, *, flush_rows: int = FLUSH_ROWS, flush_seconds: float = FLUSH_SECONDS
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lake = lake
        self._name = f"{lake.schema}.{TABLE}"
        self._path = folder / PENDING_FILE
        self._guard = _locked(folder / "lock")
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._pending = self._left_over()
        self.num_recovered = len(self._pending)
        self.why_pending = ""
        self.inputs: tuple[TableRef, ...] = ()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._due = threading.Event()
        self._closed = threading.Event()
        self._flushed_at = time.monotonic()
        self._thread: threading.Thread | None = None

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row: it is on the disk when this returns."""
        line = json.dumps(row).encode()
        with self._lock:
            try:
                # The newline comes first, too: it ends a line that a kill or a full disk cut short.
                written = os.write(self._file, b"\n" + line + b"\n")
                os.fsync(self._file)
                if written < len(line) + 2:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                raise LakeError(
                    f"cannot keep an answer in {self._path}: {error.strerror}",
                    hint="free space and run again: all answers before this one are kept",
                ) from error
            self._pending.append(row)
            if len(self._pending) >= self._flush_rows:
                self._due.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._flushing, name="headwater-completions", daemon=True
                )
                self._thread.start()

    def flush(self, *, wait_seconds: float = 0.0) -> bool:
        """Append what is pending; False when the lake cannot take it now, as ``why_pending`` says."""
        with self._writing:
            self._flushed_at = time.monotonic()
            with self._lock:
                rows = list(self._pending)
            if not rows:
                return True
            batch = pa.Table.from_pylist([_typed(row) for row in rows], schema=SCHEMA)
            provenance = Provenance(kind="log", inputs=self.inputs)
            try:
                with self._lake.lease(purpose="completions", wait_seconds=wait_seconds):
                    self._lake.write(self._name, batch, mode="append", provenance=provenance)
            except (
                LakeError,
                OSError,
            ) as error:  # held by a build, or no space: the rows are safe in the file
                self.why_pending = str(error).partition("\n")[0]
                return False
            with self._lock:
                del self._pending[: len(rows)]
                self._rewrite()
        return True

    def close(self, *, wait_seconds: float = LAST_WAIT_SECONDS) -> bool:
        """Flush once more, patiently, and let the folder go."""
        self._closed.set()
        self._due.set()
        if self._thread is not None:
            self._thread.join()
        try:
            return self.flush(wait_seconds=wait_seconds)
        finally:
            os.close(self._file)
            os.close(self._guard)

    def _flushing(self) -> None:
        while not self._closed.is_set():
            self._due.wait(max(0.05, self._flush_seconds - (time.monotonic() - self._flushed_at)))
            if self._closed.is_set():
                return
            self._due.clear()
            with contextlib.suppress(Exception):  # what is wrong comes up again in the last flush
                if not self.flush():
                    time.sleep(0.2)

    def _rewrite(self) -> None:
        """Leave in the file what is still pending.

        A kill before this leaves rows both in the lake and in the file; the next opening drops them.
        """
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in self._pending)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._path)
        os.close(self._file)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def _left_over(self) -> list[dict[str, Any]]:
        rows = list(_lines(self._path))
        table = open_optional(self._lake, self._name) if rows else None
        if table is None:
            return rows
        there: set[tuple[bytes, datetime]] = set()
        for start in range(0, len(rows), LOOKUP_ROWS):
            ids = {bytes.fromhex(row["completion_id"]) for row in rows[start : start + LOOKUP_ROWS]}
            condition = in_list("completion_id", pa.array(sorted(ids), pa.binary(16)))
            found = table.to_arrow(["completion_id", "at"], filter=condition)
            there |= set(zip(found["completion_id"].to_pylist(), found["at"].to_pylist(), strict=True))
        return [
            row
            for row in rows
            if (bytes.fromhex(row["completion_id"]), datetime.fromisoformat(row["at"])) not in there
        ]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
                if isinstance(row, dict) and set(SCHEMA.names) <= set(row):
                    yield row
            except ValueError:  # the line that a kill cut short
                continue


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: row.get(name) for name in SCHEMA.names if name not in _ID_FIELDS},
        "completion_id": bytes.fromhex(row["completion_id"]),
        "parent_ids": [bytes.fromhex(parent) for parent in row["parent_ids"]],
        "at": datetime.fromisoformat(row["at"]),
    }


def _locked(path: Path) -> int:
    guard = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(guard)
        raise UsageError(
            f"another process generates into {path.parent}",
            hint="wait for it: two runs would ask, and pay, twice",
        ) from error
    return guard


def _sorted(parts: list[pa.Array]) -> Ids:
    if not parts:
        return np.empty((0, 2), dtype=np.uint64)
    return sorted_distinct(ids_from_arrow(pa.chunked_array(parts, pa.binary(16)), "completion_id"))


def _holds(ids: Ids, wanted: bytes) -> bool:
    if not len(ids):
        return False
    words = np.frombuffer(wanted, dtype=">u8").astype(np.uint64).reshape(1, 2)
    return bool(find_ids(ids, words)[0] >= 0)
