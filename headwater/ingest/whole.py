"""Documents that are whole things: a file, an archive's member, a blob, a web page.

Their readers fill a :class:`Filling` with bytes and hand its :meth:`~Filling.task` on; the rest, from bytes
to candidates, happens here on any thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.ingest.html import Mode, extract
from headwater.ingest.rows import BAD, CANDIDATES, Chunk, bad_rows
from headwater.ingest.text import Mask, as_text, decode_declared

CHUNK_BYTES = 4 << 20
CHUNK_FILES = 2_048
"""A chunk ends at 4 MiB or 2,048 files: enough to pay for a native call, small beside any limit."""

Task = Callable[[], Chunk]
"""Work on a piece of input that may run on any thread: its reader has done the reading."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One document to be. ``path`` is ours, ``name`` is what its path and key are: posix, valid UTF-8."""

    path: str
    name: str
    source: str
    license_declared: str | None = None
    metadata: str | None = None
    problem: str | None = None
    """Set when the file must not be read: the quarantine reason."""
    key: str | None = None
    """Instead of the name."""
    url: str | None = None
    date: datetime | None = None
    """UTC, without a time zone."""
    file: str | None = None
    """Where a flaw is recorded, if not at ``name``: the file that holds this."""
    position: str = ""
    """Where in that file."""
    html: Mode | None = None
    """A page, of which this text is wanted."""
    charset: str | None = None
    """What the HTTP header said of a page."""


class Filling:
    """A chunk being filled: one buffer, the end of each document in it, and what was refused."""

    def __init__(self, capacity: int = CHUNK_BYTES, *, counts_files: bool = False) -> None:
        self.capacity = capacity
        self.buffer: bytearray | None = None
        self.ends = [0]
        self.entries: list[Entry] = []
        self.bad: list[pa.RecordBatch] = []
        self.unreadable: str | None = None
        self.num_files = 0
        self.read_bytes: int | None = None
        """Bytes of stored input, where that is not what is in the buffer."""
        self._counts_files = counts_files

    @property
    def room(self) -> int:
        return self.capacity - self.ends[-1]

    @property
    def is_full(self) -> bool:
        return len(self.entries) + len(self.bad) >= CHUNK_FILES or self.room <= 0

    def read(self, entry: Entry, file: Any, size: int) -> int:
        """Add what ``file`` holds, at most ``size`` bytes; how many there were."""
        start, stop = self.ends[-1], self.ends[-1] + size
        if self.buffer is None:
            self.capacity = max(self.capacity, size)
            self.buffer = bytearray(self.capacity)
        elif stop > len(self.buffer):
            self.buffer.extend(bytes(stop - len(self.buffer)))
        with memoryview(self.buffer) as view:
            at = start
            while at < stop and (count := file.readinto(view[at:stop])):
                at += count
        self.ends.append(at)
        self.entries.append(entry)
        return at - start

    def add(self, entry: Entry, data: bytes) -> None:
        """Add bytes; the buffer grows where they do not fit."""
        if self.buffer is None:
            self.capacity = max(self.capacity, len(data))
            self.buffer = bytearray()
        del self.buffer[self.ends[-1] :]
        self.buffer += data
        self.ends.append(len(self.buffer))
        self.entries.append(entry)

    def refuse(self, entry: Entry, reason: str, detail: str, size: int) -> None:
        if reason == "unreadable":
            self.unreadable = entry.file or entry.name
        self.bad.append(_flaw(entry, reason, detail, size))

    def task(self) -> Task:
        return self.chunk

    def chunk(self) -> Chunk:
        seen = len(self.entries) + len(self.bad)
        rows, bad = _documents(self)
        return Chunk(
            rows=rows,
            bad=pa.concat_batches([*self.bad, *bad]) if self.bad or bad else _NOTHING_BAD,
            num_files=seen if self._counts_files else self.num_files,
            num_rows=seen,
            read_bytes=self.ends[-1] if self.read_bytes is None else self.read_bytes,
            unreadable=self.unreadable,
        )


_NOTHING_BAD = pa.RecordBatch.from_pylist([], schema=BAD)


@dataclass
class _Rows:
    """Candidates and where each stood in the chunk."""

    rows: pa.RecordBatch
    order: list[int] = field(default_factory=list)


def _documents(filled: Filling) -> tuple[pa.RecordBatch | None, list[pa.RecordBatch]]:
    if not filled.entries:
        return None, []
    data = pa.py_buffer(filled.buffer or b"")
    offsets = pa.py_buffer(np.array(filled.ends, dtype=np.int64))
    raw = pa.Array.from_buffers(pa.large_binary(), len(filled.entries), [None, offsets, data])
    pages = [row for row, entry in enumerate(filled.entries) if entry.html is not None]
    if not pages:
        rows, bad = _plain(raw, filled.entries)
        return rows.rows, bad
    texts = [row for row, entry in enumerate(filled.entries) if entry.html is None]
    plain, bad = _plain(raw.take(pa.array(texts, pa.int64())), [filled.entries[row] for row in texts])
    found, worse = _pages(raw, filled.entries, pages)
    places = np.array([*(texts[row] for row in plain.order), *found.order], dtype=np.int64)
    both = pa.concat_batches([plain.rows, found.rows])
    return both.take(pa.array(np.argsort(places))), [*bad, *worse]


def _pages(raw: pa.Array, entries: list[Entry], pages: list[int]) -> tuple[_Rows, list[pa.RecordBatch]]:
    texts: list[str] = []
    found: list[Entry] = []
    order: list[int] = []
    bad: list[pa.RecordBatch] = []
    for row in pages:
        entry, data = entries[row], raw[row].as_py()
        page = extract(data, mode=entry.html or "main", charset=entry.charset)
        if page.text is None:
            bad.append(_flaw(entry, page.reason, page.detail, len(data)))
            continue
        texts.append(page.text)
        order.append(row)
        metadata = json.dumps({**json.loads(entry.metadata or "{}"), **page.facts}, ensure_ascii=False)
        # An address may hold a lone surrogate: what JSON has no UTF-8 for is escaped.
        if not _is_utf8(metadata):
            metadata = json.dumps(json.loads(metadata))
        declared = entry.license_declared or page.license_declared
        found.append(replace(entry, metadata=metadata, license_declared=declared))
    return _Rows(candidates_of(found, pa.array(texts, pa.large_string())), order), bad


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _plain(raw: pa.Array, entries: list[Entry]) -> tuple[_Rows, list[pa.RecordBatch]]:
    bad: list[pa.RecordBatch] = []
    text, valid = as_text(raw)
    if valid is None:
        return _Rows(candidates_of(entries, text), list(range(len(entries)))), bad
    text, valid, rescued = _rescue(raw, text, valid, entries)
    entries = list(entries)
    for row, coding in rescued.items():
        facts = {**json.loads(entries[row].metadata or "{}"), "encoding": coding}
        entries[row] = replace(entries[row], metadata=json.dumps(facts))
    for row in np.flatnonzero(~valid).tolist():
        data = raw[row].as_py()
        bad.append(_flaw(entries[row], "not_utf8", _first_wrong(data), len(data)))
    rows = candidates_of(entries, text).filter(pa.array(valid))
    return _Rows(rows, np.flatnonzero(valid).tolist()), bad


def _rescue(
    raw: pa.Array, text: pa.Array, valid: Mask, entries: list[Entry]
) -> tuple[pa.Array, Mask, dict[int, str]]:
    """Decode the Python files among the rows that are not UTF-8 by the coding they declare."""
    rescued: dict[int, str] = {}
    texts: list[str] = []
    for row in np.flatnonzero(~valid):
        if entries[row].name.endswith((".py", ".pyw", ".pyi")):
            decoded = decode_declared(raw[row].as_py())
            if decoded is not None:
                texts.append(decoded[0])
                rescued[int(row)] = decoded[1]
    if not rescued:
        return text, valid, rescued
    where = np.zeros(len(valid), dtype=np.bool_)
    where[list(rescued)] = True
    filled = pc.replace_with_mask(text, pa.array(where), pa.array(texts, pa.large_string()))
    return filled, valid | where, rescued


def _first_wrong(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte 0x{data[error.start]:02x} at offset {error.start}: {error.reason}"
    return ""


def _flaw(entry: Entry, reason: str, detail: str, size: int) -> pa.RecordBatch:
    return bad_rows(entry.source, entry.file or entry.name, entry.position, reason, detail, size)


def candidates_of(entries: list[Entry], text: pa.Array) -> pa.RecordBatch:
    """Schema :data:`~headwater.ingest.rows.CANDIDATES`: one row for each entry, with its text."""
    names = pa.array([entry.name for entry in entries], pa.string())
    columns = {
        "text": text,
        "key": pa.array([entry.key or entry.name for entry in entries], pa.string()),
        "path": names,
        "file": pa.array([entry.file or entry.name for entry in entries], pa.string()),
        "url": pa.array([entry.url for entry in entries], pa.string()),
        "date": pa.array([entry.date for entry in entries], pa.timestamp("us")),
        "source": pa.array([entry.source for entry in entries], pa.string()),
        "license_declared": pa.array([entry.license_declared for entry in entries], pa.string()),
        "metadata": pa.array([entry.metadata for entry in entries], pa.string()),
        "position": pa.array([entry.position for entry in entries], pa.string()),
    }
    filled = [columns[f.name] if f.name in columns else pa.nulls(len(entries), f.type) for f in CANDIDATES]
    return pa.record_batch(filled, schema=CANDIDATES)
